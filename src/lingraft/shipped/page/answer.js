// One system's answer, as it comes. What a model writes is put in as text and nothing else.
import { rate, rating } from "./ratings.js";

const ROLES = {
  english_query: "The question in English", english_reply: "The answer in English", native_reply: "The answer",
  thought: "Thoughts", text: "Outside of the chain",
};
const template = document.getElementById("answer");

export const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

export class Answer {
  // `shown`: its heading, which is not the system's name where raters are blind.
  constructor(system, shown, blind) {
    this.system = system;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.text = "";
    this.blind = blind;
    this._find = (selector) => this.element.querySelector(selector);
    this.element.classList.add(blind ? "s0" : system.style);
    this._find("h3").textContent = shown;
    this.element.setAttribute("aria-label", shown);
    this._shown = shown;
    this._text = this._find(".text");
    this._thumbs = ["up", "down"].map((kind) => this._find(`.${kind}`));
    this._thumbs.forEach((button, place) => {
      button.setAttribute("aria-label", `${place ? "Bad" : "Good"} answer: ${shown}`);
      button.title = place ? "Bad" : "Good";
      button.disabled = true;
    });
    this._roles = {};
    this.state("waiting");
  }

  state(words) {
    this._find(".state").textContent = words;
    this.element.classList.toggle("busy", /^(writing|thinking|part )/.test(words));
    this.element.setAttribute("aria-busy", String(words !== ""));
  }

  // What `ask.answer` is given.
  get events() {
    return {
      busy: (seconds) => this.state(`the server is busy; again in ${seconds} s`),
      part: () => this.state("thinking"),
      hidden: (role, piece) => { this._part(role).textContent += piece; },
      text: (piece) => { this.state("writing"); this.write(piece); },
    };
  }

  write(piece) {
    this.text += piece;
    this._text.textContent = this.text;
  }

  say(text) {
    this.text = text;
    this._text.textContent = text;
  }

  _part(role) {
    if (!this._roles[role]) {
      const item = make("li");
      const text = make("span");
      text.dir = "auto";
      item.append(make("b", "", ROLES[role] || role), text);
      this._find(".chain ol").append(item);
      this._find(".chain summary").textContent = role === "thought" ? "Thoughts" : "Translation chain";
      this._find(".chain").hidden = this.blind;
      this._roles[role] = text;
    }
    return this._roles[role];
  }

  // The answer is complete.
  end(figures) {
    this.state("");
    const notes = [];
    if (!this.text.trim()) notes.push("Nothing was written.");
    if (figures.finish === "length") notes.push("Cut: it reached the longest answer that was asked for, or the end of the model's context.");
    const failure = this.system.chain.length ? figures.chain?.failure : "";
    if (failure && failure !== "unfinished") notes.push(`The chain failed (${failure}).`);
    this.note(notes.join(" "));
    const first = figures.seconds_to_first_visible_token;
    const words = [`${figures.usage?.completion_tokens ?? 0} tokens`, `${figures.seconds.toFixed(1)} s`];
    if (figures.route) words.unshift(`by the ${figures.route}`);
    if (figures.decoder) words.unshift(figures.decoder.name);
    this.figures(words.join(" · "), first === null ? "" : `First word after ${first.toFixed(2)} s`);
  }

  figures(words, title = "") {
    const place = this._find(".figures");
    place.textContent = this.blind ? "" : words;
    place.title = title;
  }

  note(words) {
    const place = this._find(".note");
    place.textContent = words;
    place.hidden = !words;
  }

  fail(error) {
    const stopped = error.name === "AbortError";
    this.state("");
    this.failed = true;
    if (stopped) { this.note("Stopped."); return; }
    const place = this._find(".problem");
    place.textContent = error.message;
    place.hidden = false;
  }

  // Lets the answer be rated as one of several to a question; see `ratings.js`.
  rateable(comparison) {
    const draw = () => this._thumbs.forEach((button, place) => {
      button.setAttribute("aria-pressed", String(rating(comparison, this.system.name) === ["up", "down"][place]));
    });
    this._thumbs.forEach((button, place) => {
      button.disabled = false;
      button.onclick = () => { rate(comparison, this.system.name, ["up", "down"][place]); draw(); };
    });
    draw();
  }

  // Offers the text, or a file that is given, as a file.
  saveable(name, text) {
    const button = this._find(".save");
    button.hidden = false;
    button.textContent = "Save";
    button.setAttribute("aria-label", `Save the translation: ${this._shown}`);
    button.onclick = () => save(name, text());
  }

  // Shows the text with marks on what only it has.
  mark(pieces, side) {
    this._text.replaceChildren(...pieces.map(([piece, only]) => (only ? make("mark", side, piece) : document.createTextNode(piece))));
  }

  plain() {
    this._text.textContent = this.text;
  }
}

// What the answers that are whole are rated as.
export const comparisonOf = (answers, task, source, blind) => {
  const texts = answers.map((one) => [one.system.name, one.text]).sort(([one], [other]) => (one < other ? -1 : 1));
  return { task, source, blind, answers: Object.fromEntries(texts) };
};

export const save = (name, text, type = "text/plain") => {
  const link = make("a");
  link.href = URL.createObjectURL(text instanceof Blob ? text : new Blob([text], { type: `${type};charset=utf-8` }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// Marks what the first answer has alone against the second, and each other one against the first.
export const markDifferences = (answers, wanted) => {
  const ended = answers.filter((one) => one.text && !one.failed);
  ended.forEach((one) => one.plain());
  if (!wanted || ended.length < 2) return;
  const [first, ...others] = ended;
  others.forEach((one, place) => {
    const [left, right] = diffWords(first.text, one.text);
    if (place === 0) first.mark(left, "left");
    one.mark(right, "right");
  });
};

const status = document.getElementById("said");
export const announce = (words) => { status.textContent = words; };
