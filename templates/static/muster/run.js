"use strict";
// Keeps a run's page up to date while the run goes on, and shows the step that is chosen.
// Only parts that changed are replaced, so that what somebody opened or scrolled stays.
document.addEventListener("DOMContentLoaded", () => {
  const run = document.getElementById("run");
  const every = 1500;
  let query = new URLSearchParams(location.search);
  let asking = null;

  const isLive = () => document.getElementById("run-top").dataset.isLive === "yes";

  async function refresh() {
    asking?.abort();
    asking = new AbortController();
    const asked = asking;
    const answer = await fetch(`${run.dataset.live}?${query}`, {
      signal: asked.signal,
      credentials: "same-origin",
      redirect: "error",
    });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of fresh.querySelectorAll("[data-part]")) replace(part);
    markSelected();
  }

  function replace(fresh) {
    const old = document.getElementById(fresh.id);
    if (!old || fresh.id === "run-graph") return redraw(old, fresh);
    const html = fresh.innerHTML;
    if (shown.get(fresh.id) === html) return;
    shown.set(fresh.id, html);
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    const focused = old.contains(document.activeElement) && document.activeElement.dataset.step;
    fresh.querySelectorAll("details").forEach((details, at) => (details.open = open[at] ?? false));
    old.replaceWith(document.importNode(fresh, true));
    if (focused) document.querySelector(`#${fresh.id} a[data-step="${focused}"]`)?.focus();
  }

  const shown = new Map();

  function redraw(old, fresh) {
    const now = old?.querySelector(".m-graph");
    const next = fresh.querySelector(".m-graph");
    if (!now || !next || now.dataset.mermaid === next.dataset.mermaid) return;
    now.dataset.mermaid = next.dataset.mermaid;
    Muster.draw(now);
  }

  function select(step) {
    query.set("step", step);
    history.replaceState(null, "", `?${query}`);
    refresh().catch(report);
  }

  function markSelected() {
    const chosen = query.get("step") ?? run.querySelector("tr[aria-current] [data-step]")?.dataset.step;
    for (const node of run.querySelectorAll("g.node[data-step]")) {
      node.classList.toggle("is-selected", node.dataset.step === chosen);
      node.setAttribute("aria-pressed", String(node.dataset.step === chosen));
    }
  }

  function report(error) {
    if (error.name !== "AbortError") console.warn("Muster: no news of the run", error);
  }

  async function follow() {
    if (!document.hidden) await refresh().catch(report);
    if (isLive()) setTimeout(follow, every);
  }

  Muster.choose(select);
  run.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-step]");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    select(link.dataset.step);
    if (innerWidth < 1024) document.getElementById("agent").scrollIntoView();
  });
  document.addEventListener("drawn", markSelected);
  markSelected(); // the graph may have been drawn before this script's turn came
  if (isLive()) setTimeout(follow, every);
});
