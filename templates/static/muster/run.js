"use strict";
// Keeps a run's page up to date while the run goes on, and shows the step that is chosen.
// Only parts that changed are replaced, so that what somebody opened or scrolled stays.
document.addEventListener("DOMContentLoaded", () => {
  const run = document.getElementById("run");
  const soonest = 500; // between two refreshes, however much happens
  const latest = 5000; // without news: time goes on, and so do the bars
  const retry = 2000;
  const shown = new Map();
  const said = new Map(); // agent run -> what its newest call has written so far
  const mostSaid = 200;
  let query = new URLSearchParams(location.search);
  let heard = run.dataset.heard;
  let asking = null;
  let isStale = false;
  let drawing = null;

  const isLive = () => document.getElementById("run-top").dataset.isLive === "yes";
  const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

  async function refresh() {
    asking?.abort();
    asking = new AbortController();
    const answer = await fetch(`${run.dataset.live}?${query}`, {
      signal: asking.signal,
      credentials: "same-origin",
      redirect: "error",
    });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of fresh.querySelectorAll("[data-part]")) replace(part);
    markSelected();
    showSaid();
  }

  function replace(fresh) {
    const old = document.getElementById(fresh.id);
    if (!old || fresh.id === "run-graph") return redraw(old, fresh);
    const html = fresh.innerHTML;
    if (shown.get(fresh.id) === html) return;
    shown.set(fresh.id, html);
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    const scrolled = scrollable(old).map((box) => [box.scrollTop, box.scrollLeft]);
    const focused = old.contains(document.activeElement) && document.activeElement.dataset.step;
    fresh.querySelectorAll("details").forEach((details, at) => (details.open = open[at] ?? false));
    const part = document.importNode(fresh, true);
    old.replaceWith(part);
    scrollable(part).forEach((box, at) => {
      [box.scrollTop, box.scrollLeft] = scrolled[at] ?? [0, 0];
    });
    if (focused) part.querySelector(`a[data-step="${focused}"]`)?.focus();
  }

  const scrollable = (part) => [...part.querySelectorAll(".m-tall, .m-scroll")];

  // A large graph takes longer to draw than to change: what comes meanwhile is drawn at once after.
  async function redraw(old, fresh) {
    const now = old?.querySelector(".m-graph");
    const next = fresh.querySelector(".m-graph");
    if (!now || !next || now.dataset.mermaid === next.dataset.mermaid) return;
    now.dataset.mermaid = next.dataset.mermaid;
    if (drawing) return;
    while (drawing !== now.dataset.mermaid) {
      drawing = now.dataset.mermaid;
      const focused = now.contains(document.activeElement) && document.activeElement.dataset.step;
      await Muster.draw(now);
      if (focused) now.querySelector(`g.node[data-step="${focused}"]`)?.focus();
    }
    drawing = null;
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
    for (let waited = 0; isLive(); waited += soonest) {
      await pause(soonest);
      if (document.hidden || !(isStale || waited >= latest)) continue;
      isStale = false;
      waited = 0;
      await refresh().catch(report);
    }
  }

  // Not an EventSource: that one tells only of events whose names are known beforehand.
  async function listen() {
    while (isLive()) {
      if (!document.hidden) await hear().catch(report);
      isStale = true;
      await pause(retry);
    }
  }

  async function hear() {
    // A browser has few connections to one site: a page that nobody sees gives its own back.
    const hearing = new AbortController();
    const hide = () => document.hidden && hearing.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const answer = await fetch(run.dataset.events, {
        headers: { Accept: "text/event-stream", "Last-Event-ID": heard },
        signal: hearing.signal,
        credentials: "same-origin",
        redirect: "error",
      });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      if (answer.body) await take(answer.body);
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
  }

  async function take(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("id: ")) {
          heard = line.slice(4);
          isStale = true;
        } else if (line.startsWith('data: {"type": "agent.text"')) {
          say(JSON.parse(line.slice(6)).data);
        }
      }
      showSaid();
    }
  }

  function say({ agent_run_id: agentRun, call_id: call, offset, text }) {
    const before = said.get(agentRun);
    const goesOn = before?.call === call && offset <= before.end;
    const points = [...text]; // places are counted in characters, not in halves of them
    said.delete(agentRun); // so that the newest stands last
    said.set(agentRun, {
      call,
      end: Math.max(offset + points.length, goesOn ? before.end : 0),
      text: goesOn ? before.text + points.slice(before.end - offset).join("") : text,
    });
    if (said.size > mostSaid) said.delete(said.keys().next().value);
  }

  function showSaid() {
    const box = document.getElementById("agent-says");
    const text = box && said.get(box.dataset.agentRun)?.text;
    if (!text || box.textContent === text) return;
    const isAtEnd = box.hidden || box.scrollTop + box.clientHeight >= box.scrollHeight - 20;
    box.textContent = text;
    box.hidden = false;
    if (isAtEnd) box.scrollTop = box.scrollHeight;
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
  document.addEventListener("visibilitychange", () => (isStale = true));
  for (const part of run.querySelectorAll("[data-part]")) shown.set(part.id, part.innerHTML);
  markSelected(); // the graph may have been drawn before this script's turn came
  follow();
  listen();
});
