"use strict";
// Draws the chart whose figures stand in the table below it. Colours are the style sheet's.
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dollars = (value) => {
    const digits = Math.abs(value) >= 1 || value === 0 ? 2 : 1 - Math.floor(Math.log10(Math.abs(value)));
    return `$${value.toFixed(Math.min(digits, 9))}`;
  };

  function settings(data) {
    const text = colour("--m-muted");
    const line = colour("--m-line");
    return {
      type: "bar",
      data: {
        labels: data.labels,
        datasets: data.series.map((each) => ({
          label: each.label,
          data: each.values,
          backgroundColor: colour(`--m-series-${each.number}`),
          borderColor: colour("--m-card"),
          borderWidth: { top: 1 },
          maxBarThickness: 48,
        })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { stacked: true, grid: { display: false }, ticks: { color: text, maxRotation: 0, autoSkipPadding: 12 } },
          y: { stacked: true, beginAtZero: true, border: { display: false }, grid: { color: line }, ticks: { color: text, callback: dollars } },
        },
        plugins: {
          legend: { position: "bottom", labels: { color: text, boxWidth: 12, boxHeight: 12 } },
          tooltip: {
            filter: (item) => item.raw !== 0,
            callbacks: { label: (item) => `${item.dataset.label}: ${dollars(item.raw)}` },
          },
        },
      },
    };
  }

  for (const box of document.querySelectorAll("[data-chart]")) {
    const data = JSON.parse(document.getElementById(box.dataset.chart).textContent);
    box.hidden = false;
    let chart = new Chart(box.firstElementChild, settings(data));
    // Light and dark are switched without loading the page anew.
    new MutationObserver(() => {
      chart.destroy();
      chart = new Chart(box.firstElementChild, settings(data));
    }).observe(document.documentElement, { attributeFilter: ["class"] });
  }
})();
