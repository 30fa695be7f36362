// Thumbs, kept in this browser, and the sheet that is made of them. A comparison is a question, or a source, and the
// answers that stand side by side: { task, source, blind, answers: { system: text } }.
const place = "lingraft-ratings";
let kept = [];
try { kept = JSON.parse(localStorage.getItem(place) || "[]"); } catch (error) { console.info("nothing kept: " + error.name); }
if (!Array.isArray(kept)) kept = [];
const listeners = [];
export const onChange = (listener) => listeners.push(listener);

const remember = () => {
  try { localStorage.setItem(place, JSON.stringify(kept)); } catch (error) { console.info("not kept: " + error.name); }
  listeners.forEach((listener) => listener());
};
const same = (one, other) => JSON.stringify([one.task, one.source, one.answers]) === JSON.stringify([other.task, other.source, other.answers]);
const found = (comparison) => kept.find((one) => same(one, comparison));

export const rating = (comparison, system) => found(comparison)?.thumbs[system] || "";

// A second click on a thumb takes it back.
export const rate = (comparison, system, thumb) => {
  let own = found(comparison);
  if (!own) kept.push(own = { ...comparison, thumbs: {} });
  if (own.thumbs[system] === thumb) delete own.thumbs[system];
  else own.thumbs[system] = thumb;
  kept = kept.filter((one) => Object.keys(one.thumbs).length);
  remember();
};
export const all = () => kept;
export const forget = () => { kept = []; remember(); };

const words = (text) => text.split(/\s+/u).filter(Boolean).join(" ");

// The rows of the sheet: of every pair of answers which of the two is better. Alike ones need no thumbs: they are a tie.
export const rows = () => kept.flatMap((one) => {
  const names = Object.keys(one.answers);
  return names.flatMap((left, position) => names.slice(position + 1).flatMap((right) => {
    const alike = words(one.answers[left]) === words(one.answers[right]);
    const given = [one.thumbs[left], one.thumbs[right]];
    if (!alike && !(given[0] && given[1])) return [];
    const rating = alike || given[0] === given[1] ? "tie" : given[0] === "up" ? "A" : "B";
    return [{ task: one.task, source: one.source, left, right, a: one.answers[left], b: one.answers[right], blind: one.blind, rating }];
  }));
});
