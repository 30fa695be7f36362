"""A tiny random model of every family of language models that the installed transformers has, to try Lingraft on.

A family is a key of transformers' mapping for causal language models, or a wrapper with pictures around one. Its
configuration is the library's own with small sizes; what a family needs beyond these is in `SPECIAL`.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 768
LARGEST = 3_000_000
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "num_hidden_layers": 4,
    "n_layer": 4,
    "num_layers": 4,
    "num_attention_heads": 4,
    "n_head": 4,
    "num_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
    "use_cache": True,
    # experts
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    # compressed attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    # states
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "state_size": 8,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
    "chunk_size": 16,
    # dropout hides differences
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "hidden_dropout": 0.0,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "residual_dropout": 0.0,
    "layerdrop": 0.0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
LATENT = {"num_key_value_heads": 4, "head_dim": 8}
"""Compressed attention (MLA) has a key for each query; its rotary part is the head's size."""
SLIDING = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
TWO_STATES = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            "axk1",
            "axk2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "longcat_flash",
            "minicpm3",
            "youtu",
        ),
        LATENT,
    ),
    "bamba": {"attn_layer_indices": [1, 3]},
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {"layer_types": SLIDING},
    "cpmant": {"prompt_length": 4, "prompt_types": 2, "segment_types": 2, "dim_head": 8, "dim_ff": 64},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "layer_types": [*SLIDING[:3], "full_attention", *SLIDING[:1]],
        "num_hidden_layers": 5,
        "num_kv_shared_layers": 1,
        "activation_sparsity_pattern": [0.0] * 5,
        "intermediate_size": [64] * 5,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
    },
    "gemma4_text": {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "global_head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
    "kimi_linear": {**LATENT, "linear_head_dim": 8, "linear_num_heads": 4, "layer_types": TWO_STATES},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "mpt": {"attn_config": {"attn_pdrop": 0}},
    "zaya": {"num_experts_per_tok": 1},
    "zamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "phimoe": {"router_jitter_noise": 0.0, "input_jitter_noise": 0.0},
    "qwen3_5": {"text_config": {"layer_types": TWO_STATES}},
    "qwen3_5_moe": {"text_config": {"layer_types": TWO_STATES}},
    "qwen3_5_text": {"layer_types": TWO_STATES},
    "qwen3_5_moe_text": {"layer_types": TWO_STATES},
    "qwen3_next": {"layer_types": TWO_STATES},
    "gemma3": {
        "text_config": {"layer_types": SLIDING},
        "vision_config": {"model_type": "siglip_vision_model"},  # newer versions of the library leave it open
        "mm_tokens_per_image": 4,
    },
    "gemma4": {
        "text_config": {
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "global_head_dim": 8,
        },
        "audio_config": None,
    },
    "gemma4_unified": {
        "text_config": {
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "global_head_dim": 8,
        },
    },
    "llama4": {"text_config": {"intermediate_size_mlp": 64}},
    "llama4_text": {"intermediate_size_mlp": 64},
    "mistral3": {"text_config": {"model_type": "mistral"}, "vision_config": {"model_type": "pixtral"}},
    "llava": {"text_config": {"model_type": "llama"}, "vision_config": {"model_type": "clip_vision_model"}},
    "zamba2": {"layer_types": ["mamba", "hybrid", "mamba", "hybrid"]},
}


NOT_TRIED: dict[str, str] = {
    **dict.fromkeys(
        (
            "bart",
            "bigbird_pegasus",
            "blenderbot",
            "blenderbot-small",
            "marian",
            "mbart",
            "mvp",
            "pegasus",
            "plbart",
            "prophetnet",
            "trocr",
            "whisper",
        ),
        "the decoder of an encoder-decoder model",
    ),
    **dict.fromkeys(("git", "got_ocr2", "moshi", "musicgen", "musicgen_melody"), "writes for a picture, or sound"),
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), "drafts for another model"),
    **dict.fromkeys(("roc_bert", "xmod", "reformer", "xlm", "xlnet", "cpmant"), "no decoder as it is"),
    **dict.fromkeys(
        ("blt", "cohere_compass_text", "dbrx", "gemma4_unified", "phi4_multimodal", "qwen4_exp", "qwen4_exp_text"),
        "no small sizes are known",
    ),
    **dict.fromkeys(("zamba", "zamba2"), "the library cannot make them small"),
    "gemma3n": "needs the package timm",
}
"""Families of the library's mapping that are left out, and why."""
WRAPPERS = ("llava", "mistral3", "qwen3_vl", "qwen3_vl_moe")
"""Models with pictures that are not in the mapping."""


def families() -> list[str]:
    """Return all families that are tried."""
    return sorted(({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - {*NOT_TRIED}) | {*WRAPPERS})


PICTURES: dict[str, Any] = {
    "depth": 2,
    "image_size": 32,
    "patch_size": 16,
    "spatial_merge_size": 1,
    "out_hidden_size": 32,
    "projection_dim": 32,
    "vision_output_dim": 32,
    "projector_input_dim": 32,
    "projector_output_dim": 32,
    "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [1],
    "num_position_embeddings": 16,
    "hidden_size": 32,
}


def small(kind: Any, special: dict[str, Any], *, inner: str = "") -> Any:
    """Return a configuration of this kind with small sizes, those of what it contains as well."""
    names = {*inspect.signature(kind.__init__).parameters, *getattr(kind, "attribute_map", {})}
    values = {key: value for key, value in SMALL.items() if key in names}
    if inner and "text" not in inner:
        values |= {key: value for key, value in PICTURES.items() if key in names}
    values |= special
    for name, sub in (getattr(kind, "sub_configs", None) or {}).items():
        given = values.get(name, {})
        if given is not None and sub is not AutoConfig:
            values[name] = small(sub, given, inner=name)
        elif isinstance(given, dict) and "model_type" in given:
            values[name] = small(CONFIG_MAPPING[given["model_type"]], given, inner=name)
    return kind(**{key: value for key, value in values.items() if key != "model_type"})


def build(family: str, **changes: Any) -> PreTrainedModel:
    """Return a random model of a family, in float32 and ready to use; `changes` of its configuration."""
    config = small(CONFIG_MAPPING[family], SPECIAL.get(family, {}) | changes)
    loader: Any = AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForImageTextToText
    with torch.device("meta"):
        size = sum(weight.numel() for weight in loader.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{family} has {size:,} weights with the small sizes; give it others in SPECIAL")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return loader.from_config(config).eval()
