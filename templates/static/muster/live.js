"use strict";
// Keeps the parts of a page that are marked as live up to date; what is being typed stays.
const EVERY_MS = Number(document.currentScript.dataset.every);

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    // Nor is the link lost on which the reader stands.
    if (now && now.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) {
      part.replaceWith(document.adoptNode(now));
    }
  }
}

setInterval(() => refresh().catch(() => {}), EVERY_MS);
