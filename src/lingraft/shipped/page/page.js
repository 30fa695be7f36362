// The page: tabs, who answers, the key, and the list of what was rated.
import { Refused, get, useKey } from "./ask.js";
import { make, save } from "./answer.js";
import { Chat } from "./chat.js";
import { Desk } from "./desk.js";
import { all, forget, onChange, rows } from "./ratings.js";

const byId = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];

const open = (tab, focus) => {
  for (const one of tabs) {
    const own = one === tab;
    one.setAttribute("aria-selected", String(own));
    one.tabIndex = own ? 0 : -1;
    byId(one.getAttribute("aria-controls")).hidden = !own;
  }
  if (focus) tab.focus();
};
tabs.forEach((tab, place) => {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    open(tabs[(to + tabs.length) % tabs.length], true);
  });
});

// The base first, as what the others are compared with.
const inOrder = (systems) => [...systems.filter((one) => !one.graft), ...systems.filter((one) => one.graft)];

const begin = ({ systems, languages, documents }) => {
  const shown = inOrder(systems);
  shown.filter((one) => one.graft).forEach((one, place) => { one.style = `s${1 + (place % 5)}`; });
  shown.forEach((one) => { one.style ||= "s0"; });
  const boxes = shown.map((one) => {
    const label = make("label");
    const box = make("input");
    const dot = make("span", `dot ${one.style}`);
    box.type = "checkbox";
    box.checked = true;
    label.append(box, dot, one.name);
    label.title = one.graft ? `graft, ${one.method}${one.chain.length ? ", answers through English" : ""}` : "the untouched base";
    byId("systems").append(label);
    return box;
  });
  byId("systems").hidden = shown.length < 2;
  const chosen = () => shown.filter((one, place) => boxes[place].checked);
  new Chat(chosen);
  new Desk(chosen, languages, systems, documents);
  ["send", "translate"].forEach((id) => { byId(id).disabled = false; }); // before, nobody was there to be asked
  byId("question").focus({ preventScroll: true });
};

const load = async () => {
  byId("problem").hidden = true;
  try {
    begin(await get("/page/systems"));
    byId("key-form").hidden = true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const locked = error.status === 401;
    byId("key-form").hidden = !locked;
    byId("problem").hidden = locked;
    byId("problem").textContent = error.message;
    if (locked) byId("key").focus();
  }
};
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key-problem").textContent = "That key is not the server's.";
  load();
});

const draw = () => {
  const kept = all();
  const made = rows();
  byId("rated-count").textContent = String(kept.length);
  byId("rated-count").hidden = !kept.length;
  byId("rated").textContent = `${made.length} ${made.length === 1 ? "comparison" : "comparisons"} from ${kept.length} ${kept.length === 1 ? "question" : "questions"} with thumbs.`;
  byId("download").disabled = !made.length;
  byId("forget").disabled = !kept.length;
  byId("rated-list").replaceChildren(...kept.map((one) => {
    const pair = make("article", "pair");
    const source = make("p", "", one.source);
    source.dir = "auto";
    const list = make("ul");
    list.append(...Object.keys(one.answers).map((name) => {
      const item = make("li", "", `${name}: `);
      const thumb = one.thumbs[name];
      item.append(make("span", thumb ? `${thumb}-word` : "hint", thumb || "no thumb"));
      return item;
    }));
    pair.append(make("span", "hint", `${one.task}${one.blind ? ", blind" : ""}`), source, list);
    return pair;
  }));
};
onChange(draw);
byId("save").addEventListener("submit", (event) => {
  event.preventDefault();
  const rater = byId("rater").value.trim();
  if (!rater) { byId("rated").textContent = "Please enter your name first."; byId("rater").focus(); return; }
  const sheet = { schema: "lingraft.ratings/1", rater, ratings: rows() };
  save(`ratings-${rater.replace(/[^\p{L}\p{N}_-]+/gu, "-")}.json`, `${JSON.stringify(sheet, null, 1)}\n`, "application/json");
});
byId("forget").addEventListener("click", () => { if (confirm("Forget all ratings that are kept in this browser?")) forget(); });
draw();
load();
