"use strict";
// Draws the Mermaid text that a page carries. Nodes that are steps can be chosen by mouse and keys.
window.Muster = (() => {
  // Mermaid's own are a warm black, on the blue one of the page.
  const DARK_NODES = { mainBkg: "#1f2937", nodeBorder: "#6b7280" };
  let drawings = 0;

  const isDark = () => document.documentElement.classList.contains("dark");

  // The text brings colours for a light page; the dark ones are those of the badges.
  function inTheme(text) {
    if (!isDark()) return text;
    const style = getComputedStyle(document.documentElement);
    return text.replace(/classDef (\w+) fill:[^,]+,stroke:[^,]+,color:#\w+/g, (light, state) => {
      const [ink, fill] = ["", "-bg"].map((end) => style.getPropertyValue(`--m-${state}${end}`).trim());
      return ink && fill ? `classDef ${state} fill:${fill},stroke:${ink},color:${ink}` : light;
    });
  }

  async function draw(figure) {
    const target = figure.querySelector(".m-graph-drawing");
    mermaid.initialize({
      startOnLoad: false,
      securityLevel: "strict",
      theme: isDark() ? "dark" : "neutral",
      fontFamily: "Inter, sans-serif",
      themeVariables: { fontSize: "13px", ...(isDark() && DARK_NODES) },
      flowchart: { useMaxWidth: true, nodeSpacing: 28, rankSpacing: 40 },
    });
    try {
      const { svg } = await mermaid.render(`drawing-${++drawings}`, inTheme(figure.dataset.mermaid));
      target.innerHTML = svg;
    } catch (error) {
      target.textContent = "This graph cannot be drawn.";
      console.error(error);
      return;
    }
    target.removeAttribute("aria-hidden");
    // Mermaid says that it is a picture, which would hide the buttons in it.
    const drawing = target.querySelector("svg");
    drawing.setAttribute("role", "group");
    drawing.removeAttribute("aria-roledescription");
    drawing.setAttribute("aria-label", "Graph");
    nameNodes(figure);
    figure.dispatchEvent(new CustomEvent("drawn", { bubbles: true }));
  }

  function nameNodes(figure) {
    const faulty = (figure.dataset.faulty ?? "").split(" ");
    const steps = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    for (const node of figure.querySelectorAll("g.node")) {
      const name = steps[node.id.match(/flowchart-(\w+)-\d+$/)?.[1]];
      if (!name) continue;
      node.dataset.step = name;
      node.classList.toggle("is-faulty", faulty.includes(name));
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "button");
      const label = node.querySelector(".nodeLabel")?.innerText ?? name;
      node.setAttribute("aria-label", label.trim().replaceAll("\n", ", "));
    }
  }

  function choose(handler) {
    const chosen = (event) => event.target.closest?.("g.node[data-step]")?.dataset.step;
    document.addEventListener("click", (event) => chosen(event) && handler(chosen(event)));
    document.addEventListener("keydown", (event) => {
      if (chosen(event) && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        handler(chosen(event));
      }
    });
  }

  function drawAll() {
    for (const figure of document.querySelectorAll(".m-graph")) draw(figure);
  }

  document.addEventListener("DOMContentLoaded", drawAll);
  new MutationObserver((changes) => {
    if (changes.some(({ oldValue }) => /\bdark\b/.test(oldValue ?? "") !== isDark())) drawAll();
  }).observe(document.documentElement, { attributeFilter: ["class"], attributeOldValue: true });

  return { draw, choose };
})();
