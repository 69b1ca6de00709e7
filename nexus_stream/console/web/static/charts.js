// The overview's curves: /api/v1/series drawn with uPlot, in the page's own colours.
"use strict";
addEventListener("DOMContentLoaded", () => {
  const EVERY_MS = 10000;
  const ROLES = ["gateway", "enricher", "sink"];
  const minutes = document.getElementById("chart-minutes");
  const note = document.getElementById("chart-note");
  const boxes = [...document.querySelectorAll(".chart")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let charts = [], last = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const width = (box) => Math.max(220, box.clientWidth);
  const shown = (value) => value == null ? "–" : value >= 100 ? Math.round(value).toLocaleString() : String(Math.round(value * 100) / 100);

  function options(box) {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    return {
      width: width(box), height: 170, cursor: { y: false, points: { size: 6 } }, legend: { live: true },
      scales: { y: { range: (u, low, high) => [0, Math.max(1, high || 0) * 1.1] } },
      axes: [{ ...axis, space: 60 }, { ...axis, size: 46, space: 34 }],
      series: [{ value: (u, at) => at == null ? "–" : new Date(at * 1000).toLocaleTimeString() },
        ...ROLES.map((role) => ({
          label: box.dataset[role], stroke: colour(`--${role}`), width: 1.6, spanGaps: false, points: { size: 3.5, show: true },
          value: (u, value) => shown(value),
        }))],
    };
  }

  function draw() {
    charts.forEach((chart) => chart.destroy());
    charts = boxes.map((box) => new uPlot(options(box), data(box), box));
  }

  const data = (box) => [last.times, ...ROLES.map((role) => last.curves[`${role}_${box.dataset.curve}`])];

  async function load(redraw) {
    if (document.hidden) return;
    try {
      const answer = await fetch(`/api/v1/series?minutes=${minutes.value}`, { credentials: "same-origin" });
      if (!answer.ok) return;
      last = await answer.json();
    } catch { return; }
    note.hidden = Object.values(last.curves).some((curve) => curve.some((value) => value != null));
    if (redraw || !charts.length) draw(); else charts.forEach((chart, at) => chart.setData(data(boxes[at])));
  }

  new ResizeObserver(() => charts.forEach((chart, at) => chart.setSize({ width: width(boxes[at]), height: 170 }))).observe(boxes[0]);
  dark.addEventListener("change", () => { if (last) draw(); });
  minutes.addEventListener("change", () => load(true));
  document.addEventListener("visibilitychange", () => load(false));
  setInterval(() => load(false), EVERY_MS);
  load(true);
});
