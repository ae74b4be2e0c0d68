"use strict";

const REFRESH_MS = 2000;
const threads = document.getElementById("threads");
const count = document.getElementById("count");
const pause = document.getElementById("pause");
const knobs = document.getElementById("knobs");
const said = document.getElementById("knobs-said");
const rules = document.getElementById("rules");
const examples = {
  latency_ms: "500", latency_after_ms: "500", fail_before: "503", fail_after: "503", rate_limit: "5",
  reject: "Not with us.", processing_polls: "3",
};
let paused = false;

// The server has escaped everything in the fragment; keyboard focus is given back to the same link.
async function refresh() {
  if (paused || document.hidden) return;
  const answer = await fetch(threads.dataset.source);
  if (!answer.ok) return;
  const fresh = await answer.text();
  const focused = threads.contains(document.activeElement) ? document.activeElement : null;
  const address = focused && focused.getAttribute("href");
  threads.innerHTML = fresh;
  if (address) {
    [...threads.querySelectorAll("a")].find((link) => link.getAttribute("href") === address)?.focus();
  }
  const total = Number(answer.headers.get("X-Post-Count"));
  const words = total === 1 ? "1 post" : `${total} posts`;
  if (count.textContent !== words) count.textContent = words;
}

function showRules(list) {
  rules.replaceChildren(...list.map((rule) => {
    const item = document.createElement("li");
    item.textContent = Object.entries(rule)
      .map(([name, value]) => `${name}: ${value === null ? "for ever" : value}`).join(", ");
    return item;
  }));
}

async function faults(options) {
  const answer = await fetch("/admin/faults", options);
  const document_ = await answer.json();
  said.textContent = answer.ok ? "" : document_.message;
  if (answer.ok) showRules(document_.rules);
  return document_.rules;
}

function kind() {
  return knobs.fault.selectedOptions[0].dataset.kind;
}

function fitValue() {
  document.getElementById("value-label").hidden = kind() === "flag";
  knobs.value.value = examples[knobs.fault.value] ?? "";
}

function rule() {
  const value = { flag: true, words: knobs.value.value, number: Number(knobs.value.value) }[kind()];
  const made = { [knobs.fault.value]: value };
  if (knobs.operation.value) made.operation = knobs.operation.value;
  if (knobs.times.value) made.times = Number(knobs.times.value);
  if (knobs.text_contains.value) made.text_contains = knobs.text_contains.value;
  return made;
}

knobs.fault.addEventListener("change", fitValue);
knobs.addEventListener("submit", async (event) => {
  event.preventDefault();
  const current = await faults({});
  const live = current.filter((one) => one.times !== 0);
  await faults({ method: "PUT", body: JSON.stringify([...live, rule()]) });
});
document.getElementById("clear").addEventListener("click", () => faults({ method: "DELETE" }));
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Paused" : "Pause";
});

fitValue();
setInterval(() => {
  refresh().catch(() => { count.textContent = "The sandbox does not answer"; });
  if (!paused && !document.hidden) faults({}).catch(() => undefined);
}, REFRESH_MS);
