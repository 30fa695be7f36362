// The conversation: one question to all systems that are chosen, their answers side by side.
import { answer } from "./ask.js";
import { Answer, announce, comparisonOf, make, markDifferences } from "./answer.js";

const TASK = "answer to a question";
const TRIES = ["Name three fruits.", "What is the capital of France?", "Explain in two sentences why the sky is blue.", "Write a short poem about rain."];
const byId = (id) => document.getElementById(id);

export class Chat {
  // `chosen()` gives the systems that are to answer, in their order.
  constructor(chosen) {
    this._chosen = chosen;
    this._thread = byId("thread");
    this._question = byId("question");
    this._turns = []; // the answers of each turn
    this._asked = []; // the user's turns
    this._histories = new Map(); // system -> what it was asked and answered; each goes on with its own words
    this._order = null; // of systems, where who answers is hidden
    this._running = null;
    byId("composer").addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this._question.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.send(); }
    });
    byId("stop").addEventListener("click", () => this._running?.abort());
    byId("fresh").addEventListener("click", () => this.fresh());
    byId("mark").addEventListener("change", () => this._turns.forEach((answers) => this._mark(answers)));
    byId("blind").addEventListener("change", () => this.fresh());
    for (const text of TRIES) {
      const button = make("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => { this._question.value = text; this.send(); });
      byId("tries").append(button);
    }
  }

  fresh() {
    this._running?.abort();
    this._thread.replaceChildren();
    this._turns = [];
    this._asked = [];
    this._histories.clear();
    this._order = null;
    byId("chat-empty").hidden = false;
    this._question.focus();
  }

  // The systems in the order in which they are shown: at random, and for the whole conversation, where raters are blind.
  _systems() {
    const chosen = this._chosen();
    if (!byId("blind").checked) return chosen;
    if (!this._order) this._order = new Map(chosen.map((one) => [one.name, Math.random()]));
    chosen.forEach((one) => { if (!this._order.has(one.name)) this._order.set(one.name, Math.random()); });
    return [...chosen].sort((one, other) => this._order.get(one.name) - this._order.get(other.name));
  }

  _mark(answers) {
    if (answers.every((one) => one.ended)) markDifferences(answers, byId("mark").checked);
  }

  async send() {
    const text = this._question.value.trim();
    const systems = this._systems();
    if (!text || this._running) return;
    if (!systems.length) { announce("Choose who is to answer."); return; }
    const blind = byId("blind").checked;
    const answers = systems.map((one, place) => new Answer(one, blind ? `Answer ${"ABCDEFGH"[place]}` : one.name, blind));
    this._draw(text, answers);
    this._turns.push(answers);
    this._asked.push(text);
    this._question.value = "";
    this._running = new AbortController();
    this._busy(true);
    announce(`Asked ${answers.length === 1 ? "one model" : `${answers.length} models`}.`);
    await Promise.all(answers.map((one) => this._ask(one, text, this._running.signal)));
    this._mark(answers);
    this._rateable(answers, blind);
    this._running = null;
    this._busy(false);
    announce(answers.map((one) => `${one.element.getAttribute("aria-label")}: ${one.failed ? "no answer" : "complete"}`).join(". "));
  }

  async _ask(one, text, signal) {
    const name = one.system.name;
    const history = this._histories.get(name) || [];
    const before = byId("system").value.trim();
    const messages = [...(before ? [{ role: "system", content: before }] : []), ...history, { role: "user", content: text }];
    const body = { model: name, messages, temperature: Number(byId("temperature").value) || 0, max_tokens: Math.max(1, Math.round(Number(byId("longest").value)) || 512) };
    try {
      one.end(await answer(body, one.events, signal));
      this._histories.set(name, [...history, { role: "user", content: text }, { role: "assistant", content: one.text }]);
    } catch (error) {
      one.fail(error);
    }
    one.ended = true;
  }

  _draw(text, answers) {
    const turn = make("div", "turn");
    const asked = make("p", "asked", text);
    asked.dir = "auto";
    const row = make("div", "answers");
    row.append(...answers.map((one) => one.element));
    turn.append(asked, row);
    byId("chat-empty").hidden = true;
    this._thread.append(turn);
    turn.scrollIntoView({ block: "start", behavior: "instant" });
  }

  _rateable(answers, blind) {
    const whole = answers.filter((one) => !one.failed && one.text);
    const comparison = comparisonOf(whole, TASK, this._asked.join("\n\n"), blind);
    whole.forEach((one) => one.rateable(comparison));
  }

  _busy(busy) {
    byId("send").disabled = busy;
    byId("stop").hidden = !busy;
    if (!busy) this._question.focus({ preventScroll: true });
  }
}
