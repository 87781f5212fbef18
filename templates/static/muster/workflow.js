"use strict";
// The steps' forms: what a step may need follows the names on the page, and a step that is
// renamed keeps the steps that need it. An agent described in place shows its own fields.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("workflow_form");
  if (!form) return;

  const rows = () =>
    [...form.querySelectorAll("#steps-group .form-group")].filter((row) => !row.classList.contains("empty-form"));
  const nameField = (row) => row.querySelector(".m-step-name");
  const isDeleted = (row) => row.querySelector("input[name$='-DELETE']")?.checked ?? false;
  const prefixOf = (row) => nameField(row).name.replace(/-name$/, "");
  const chosen = (row) =>
    new Set([...row.querySelectorAll("input[name$='-needs']:checked")].map((box) => box.value));

  function offer(row, names, needs) {
    const prefix = prefixOf(row);
    const list = row.querySelector(`#id_${prefix}-needs`);
    if (!list) return;
    list.classList.add("m-chips");
    const own = nameField(row).value;
    // A name that is chosen but leads nowhere stays to be seen and taken away.
    const offered = [...new Set([...names.filter((name) => name && name !== own), ...needs])];
    list.replaceChildren(...offered.map((name, at) => chip(prefix, name, at, needs.has(name), names)));
    if (!offered.length) list.textContent = "No other steps yet.";
  }

  function chip(prefix, name, at, isChosen, names) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, {
      type: "checkbox",
      className: "m-chip-box",
      name: `${prefix}-needs`,
      value: name,
      checked: isChosen,
    });
    box.id = `id_${prefix}-needs_${at}`;
    label.className = "m-chip";
    label.classList.toggle("is-unknown", !names.includes(name));
    label.append(box, ` ${name}`);
    return label;
  }

  function offerAll(renamed = new Map()) {
    const names = rows().filter((row) => !isDeleted(row)).map((row) => nameField(row).value.trim());
    for (const row of rows()) {
      const needs = new Set([...chosen(row)].map((name) => renamed.get(name) ?? name));
      offer(row, names, needs);
    }
  }

  const known = new WeakMap();
  form.addEventListener("focusin", (event) => {
    if (event.target.matches(".m-step-name")) known.set(event.target, event.target.value.trim());
  });
  form.addEventListener("change", (event) => {
    if (event.target.matches(".m-step-name")) {
      const before = known.get(event.target);
      const after = event.target.value.trim();
      offerAll(before && after ? new Map([[before, after]]) : new Map());
      known.set(event.target, after);
    }
    if (event.target.matches("[name$='-DELETE']")) offerAll();
    if (event.target.matches("[name$='-agent_source'], [name$='-agent_type']")) showAgent(event.target.closest(".form-group"));
  });

  // Fields that do not apply are out of the way, unless somebody wrote something into them.
  function showAgent(row) {
    const value = (name) => row.querySelector(`[name$='-${name}']`)?.value ?? "";
    const isInPlace = value("agent_source") === "=";
    show(row, "agent_type", isInPlace);
    show(row, "agent_role", isInPlace);
    show(row, "agent_more", isInPlace && (value("agent_type") !== "prompt" || value("agent_more").trim()));
    show(row, "prompt", !isInPlace || !["tool", "aggregator"].includes(value("agent_type")) || value("prompt"));
  }

  function show(row, name, isShown) {
    row.querySelector(`.field-${name}`)?.classList.toggle("m-off", !isShown);
  }

  document.addEventListener("formset:added", (event) => {
    offerAll();
    showAgent(event.target);
    nameField(event.target)?.focus();
  });
  document.addEventListener("formset:removed", () => offerAll());
  offerAll();
  rows().forEach(showAgent);

  // What is wrong must be seen: fold nothing that has an error in it.
  for (const errors of form.querySelectorAll(".errorlist")) {
    for (let at = errors.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
  }
  // A link of the report leads to a field that may be folded away.
  for (const link of document.querySelectorAll("#report a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const field = document.getElementById(link.hash.slice(1));
      for (let at = field?.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
      field?.scrollIntoView({ block: "center" });
      field?.focus({ preventScroll: true });
    });
  }
  // A node of the graph leads to its step.
  Muster.choose((step) => {
    const row = rows().find((each) => nameField(each).value === step);
    row?.scrollIntoView({ block: "start" });
    nameField(row)?.focus({ preventScroll: true });
  });
  (document.getElementById("report") ?? form.querySelector(".errorlist"))?.scrollIntoView?.({ block: "center" });
});
