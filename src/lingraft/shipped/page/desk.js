// The translation desk: a text or a document, its parts asked for one by one, by the rules of `lingraft translate`.
import { answer, post, translateFile } from "./ask.js";
import { Answer, announce, comparisonOf, make, markDifferences } from "./answer.js";

const MOST_BYTES = 1000000;
const PLAIN = /\.(txt|md|markdown)$/i;
const FAILURES = {
  empty: "nothing was written", preamble: "it announces itself", extra_text: "more was written behind it, and left out", thinking: "thoughts alone were written",
  delimiter_in_source: "it is not clear where it ends", unfinished: "it was cut at the longest translation",
};
const byId = (id) => document.getElementById(id);

export class Desk {
  // `chosen()` gives the systems that are to translate; `languages`: [{ code, name }]; `documents`: ends of the names of files
  // that are translated with their structure.
  constructor(chosen, languages, systems, documents) {
    this._chosen = chosen;
    this._ends = documents;
    this._file = null;
    byId("file").accept = documents.join(",");
    this._names = Object.fromEntries(languages.map(({ code, name }) => [code, name]));
    this._running = null;
    this._document = null;
    this._answers = [];
    this._fill(languages, systems);
    byId("desk-form").addEventListener("submit", (event) => { event.preventDefault(); this.translate(); });
    byId("desk-form").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.translate(); }
    });
    byId("stop-desk").addEventListener("click", () => this._running?.abort());
    byId("mark").addEventListener("change", () => this._mark());
    byId("swap").addEventListener("click", () => {
      [byId("from").value, byId("to").value] = [byId("to").value, byId("from").value];
      this._say();
    });
    for (const id of ["from", "to"]) byId(id).addEventListener("change", () => this._say());
    byId("file").addEventListener("change", (event) => { this._open(event.target.files[0]); event.target.value = ""; });
    byId("close-document").addEventListener("click", () => this._close());
    this._droppable(byId("drop"));
    this._say();
  }

  // The languages of the grafts' directions stand first, and their first direction is chosen.
  _fill(languages, systems) {
    this._directions = new Map(systems.filter((one) => one.graft).map((one) => [one.name, one.directions]));
    const trained = [...this._directions.values()].flat();
    for (const [id, side] of [["from", 0], ["to", 1]]) {
      const known = new Set(trained.map((pair) => pair[side]));
      const groups = [["Trained", (one) => known.has(one.code)], ["Others", (one) => !known.has(one.code)]];
      for (const [title, within] of groups) {
        const group = make("optgroup");
        group.label = title;
        group.append(...languages.filter(within).map(({ code, name }) => new Option(name, code)));
        if (group.children.length) byId(id).append(group);
      }
    }
    const [source, target] = trained[0] || ["de", "en"];
    byId("from").value = source;
    byId("to").value = target;
  }

  // Says for which of the systems the direction is none that they were trained for.
  _say() {
    const [source, target] = [byId("from").value, byId("to").value];
    const foreign = [...this._directions].filter(([, pairs]) => pairs.length && !pairs.some(([one, two]) => one === source && two === target));
    const names = foreign.map(([name]) => name).join(" and ");
    byId("untrained").textContent = source === target ? "Choose two languages." : names ? `${names} ${foreign.length > 1 ? "were" : "was"} not trained for this direction.` : "";
  }

  _droppable(place) {
    const over = (event, is) => { event.preventDefault(); place.classList.toggle("over", is); };
    place.addEventListener("dragover", (event) => over(event, true));
    place.addEventListener("dragleave", (event) => over(event, false));
    place.addEventListener("drop", (event) => {
      over(event, false);
      const file = event.dataTransfer.files[0];
      const text = event.dataTransfer.getData("text/plain");
      if (file) this._open(file);
      else if (text) byId("source").value = text;
    });
    // A file that is dropped beside the place would replace the page.
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  }

  async _open(file) {
    if (!file) return;
    this._problem("");
    if (!this._ends.some((end) => file.name.toLowerCase().endsWith(end))) { this._problem(`${file.name} is of no format that is translated here: ${this._ends.join(", ")}.`); return; }
    if (!PLAIN.test(file.name)) {
      this._show(file.name, "Translated with its structure.");
      this._file = file;
      byId("source").value = "";
      byId("source").disabled = byId("as-document").disabled = true;
      return;
    }
    if (file.size > MOST_BYTES) { this._problem(`${file.name} has more than ${MOST_BYTES / 1000000} MB; translate it with lingraft translate --document.`); return; }
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch (error) {
      this._problem(`${file.name} is not UTF-8; save it as UTF-8 first.`);
      return;
    }
    this._show(file.name, "");
    byId("source").value = text;
    byId("as-document").checked = true;
  }

  _show(name, how) {
    this._close();
    this._document = name;
    byId("document-name").textContent = how ? `${name}. ${how}` : name;
    byId("document").hidden = false;
    announce(`${name} is opened.`);
    byId("translate").focus();
  }

  _close() {
    this._document = this._file = null;
    byId("source").disabled = byId("as-document").disabled = false;
    byId("document").hidden = true;
    byId("source").value = "";
    byId("as-document").checked = false;
    byId("source").focus();
  }

  _problem(words) {
    byId("desk-problem").textContent = words;
    byId("desk-problem").hidden = !words;
  }

  _mark() {
    if (!this._running) markDifferences(this._answers, byId("mark").checked);
  }

  async translate() {
    const systems = this._chosen();
    const given = { text: byId("source").value, source: byId("from").value, target: byId("to").value, terms: byId("terms").value };
    if (this._running) return;
    this._problem("");
    if (this._file) {
      if (systems.length) await this._translateFile(this._file, given, systems);
      else this._problem("Choose who is to translate the document.");
      return;
    }
    if (!given.text.trim()) { this._problem("There is no text to translate."); byId("source").focus(); return; }
    if (!systems.length) { this._problem("Choose who is to translate."); return; }
    this._running = new AbortController();
    this._busy(true);
    try {
      // Each is asked in the words that it was trained with; what they are refused is the same for all.
      const plans = await Promise.all(systems.map((one) => post("/page/parts", { ...given, model: one.name, document: byId("as-document").checked }, this._running.signal)));
      this._answers = systems.map((one) => new Answer(one, one.name, false));
      const row = make("div", "answers");
      row.append(...this._answers.map((one) => one.element));
      byId("translations").replaceChildren(row);
      await Promise.all(this._answers.map((one, place) => this._fillIn(one, given, plans[place], this._running.signal)));
      this._rateable(given);
      announce(`The translations are ${this._answers.some((one) => one.failed) ? "not all " : ""}complete.`);
    } catch (error) {
      if (error.name !== "AbortError") this._problem(error.message);
    }
    this._running = null;
    this._busy(false);
    this._mark();
  }

  // Systems translate a file whose structure is kept, one after the other; what they make of it is saved, and not shown.
  async _translateFile(file, given, systems) {
    this._running = new AbortController();
    this._busy(true);
    const answers = systems.map((one) => new Answer(one, one.name, false));
    this._answers = [];
    const row = make("div", "answers");
    row.append(...answers.map((one) => one.element));
    byId("translations").replaceChildren(row);
    await Promise.all(answers.map((one) => this._fileBy(one, file, given)));
    announce(`The document is ${answers.some((one) => one.failed) ? "not " : ""}translated.`);
    this._running = null;
    this._busy(false);
  }

  async _fileBy(one, file, given) {
    one.say(file.name);
    one.state("waiting");
    const began = performance.now();
    const told = (status) => one.state(status.status === "queued" ? "waiting" : `${Math.round(100 * (status.lingraft?.done || 0))} %${status.seconds_remaining ? `, about ${status.seconds_remaining} s more` : ""}`);
    try {
      const fields = { source_lang: given.source, target_lang: given.target, "lingraft.terms": given.terms, "lingraft.model": one.system.name };
      const { data, segments, lost } = await translateFile(file, fields, told, this._running.signal);
      const name = this._name(one.system.name, given.target);
      one.state("");
      one.say(name);
      one.figures(`${segments} ${segments === 1 ? "segment" : "segments"} · ${((performance.now() - began) / 1000).toFixed(1)} s`);
      if (lost) one.note(`${lost} of ${segments} segments ${lost === 1 ? "is" : "are"} left as in the source, since no translation kept all that it must.`);
      one.saveable(name, () => data);
    } catch (error) {
      one.fail(error);
    }
  }

  async _fillIn(one, given, plan, signal) {
    const { parts, max_tokens } = plan;
    const wanted = parts.filter((part) => part.translate).length;
    const known = new Map(); // the same text is asked for once
    const failures = new Map();
    const missing = new Set();
    let [done, terms, tokens, seconds, text] = [0, 0, 0, 0, ""];
    try {
      for (const part of parts) {
        if (part.translate && !known.has(part.text)) {
          const before = text;
          let raw = "";
          const writing = () => one.state(wanted > 1 ? `part ${done + 1} of ${wanted}` : "writing");
          const events = { ...one.events, part: writing, text: (piece) => { raw += piece; one.say(before + raw); writing(); } };
          const body = { model: one.system.name, messages: [{ role: "user", content: part.prompt }], temperature: 0, max_tokens, stop: part.stop };
          const figures = await answer(body, events, signal);
          const found = await post("/page/translation", { ...given, text: part.text, model: one.system.name, answer: raw, finish_reason: figures.finish }, signal);
          known.set(part.text, found.text);
          if (found.failure) failures.set(found.failure, (failures.get(found.failure) || 0) + 1);
          found.missing.forEach((term) => missing.add(term));
          terms += found.terms;
          tokens += figures.usage?.completion_tokens ?? 0;
          seconds += figures.seconds;
        }
        if (part.translate) done += 1;
        text += (part.translate ? known.get(part.text) : part.text) + part.end;
        one.say(text);
      }
      one.say(text.replace(/\n$/, ""));
      one.state("");
      one.figures(`${tokens} tokens · ${seconds.toFixed(1)} s`);
    } catch (error) {
      one.fail(error);
    }
    const notes = [...failures].map(([kind, count]) => `${wanted > 1 ? `${count} of ${wanted} parts: ` : ""}${FAILURES[kind] || kind}.`);
    if (terms) notes.push(missing.size ? `Missing of the glossary: ${[...missing].join(", ")}.` : `All ${terms} terms of the glossary are there.`);
    if (notes.length && !one.failed) one.note(notes.join(" ")[0].toUpperCase() + notes.join(" ").slice(1));
    if (one.text) one.saveable(this._name(one.system.name, given.target), () => `${one.text}\n`);
  }

  _name(system, target) {
    const [, stem, end] = (this._document || "translation.txt").match(/^(.*?)(\.[^.]*)?$/);
    return `${stem}.${target}.${system.replace(/[^\p{L}\p{N}_-]+/gu, "-")}${end || ".txt"}`;
  }

  _rateable(given) {
    const whole = this._answers.filter((one) => !one.failed && one.text);
    const task = `translation from ${this._names[given.source]} to ${this._names[given.target]}`;
    const comparison = comparisonOf(whole, task, given.text, false);
    whole.forEach((one) => one.rateable(comparison));
  }

  _busy(busy) {
    byId("translate").disabled = busy;
    byId("stop-desk").hidden = !busy;
  }
}
