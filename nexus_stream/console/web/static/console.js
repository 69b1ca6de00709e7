// Keyboard, dialogs, pausing what lives, the live tail. Every page works without it; this only makes it quicker.
"use strict";
(() => {
  const page = document.body.dataset.page;
  const byId = (id) => document.getElementById(id);

  // What refreshes itself rests while nobody looks, and says so to nobody.
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden) event.preventDefault();
  });

  // Dialogs
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) byId(opener.dataset.opens).showModal();
  });

  // Keyboard
  const rows = () => [...document.querySelectorAll("main a[data-row]")];
  const move = (step) => {
    const all = rows();
    if (!all.length) return;
    const at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  };
  const places = { o: "/", s: "/sessions", d: "/dead-letters", l: "/tail" };
  let goingUntil = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    if (target.matches("input, select, textarea")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (event.timeStamp < goingUntil && places[event.key]) {
      goingUntil = 0;
      location.assign(places[event.key]);
      return;
    }
    goingUntil = 0;
    switch (event.key) {
      case "/": {
        const search = document.querySelector("input[type=search]");
        if (search) { search.focus(); search.select(); } else location.assign("/sessions");
        break;
      }
      case "j": move(1); break;
      case "k": move(-1); break;
      case "n": document.querySelector("a[rel=next]")?.click(); break;
      case "g": goingUntil = event.timeStamp + 1500; break;
      case "p": byId("tail-pause")?.click(); break;
      case "?": byId("keys").showModal(); break;
      default: return;
    }
    event.preventDefault();
  });

  // Filters apply at once
  document.querySelectorAll("form.bar select").forEach((select) => {
    select.addEventListener("change", () => select.form.requestSubmit());
  });
  // An address without what was left empty
  document.querySelectorAll("form.bar").forEach((form) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
      location.assign(form.getAttribute("action") + (query.size ? `?${query}` : ""));
    });
  });

  if (page === "tail") tail();

  function tail() {
    const MAX_ROWS = 200;
    const list = byId("tail"), state = byId("tail-state"), button = byId("tail-pause"), note = byId("tail-skipped");
    let after = Number(list.dataset.after), skipped = 0, paused = false, source = null;

    const show = (name) => { state.textContent = state.dataset[name]; state.dataset.value = name; };
    const close = () => { if (source) { source.close(); source = null; } };
    const open = () => {
      close();
      source = new EventSource(`/events?after=${after}`);
      source.onopen = () => show("live");
      source.onerror = () => {
        show("lost");
        // It connects again by itself; a refusal ends it, and then the page has to log in.
        if (source && source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
      };
      source.addEventListener("emissions", (event) => {
        const news = JSON.parse(event.data);
        after = Number(event.lastEventId);
        skipped += news.skipped;
        if (skipped) {
          note.textContent = note.dataset.text.replace("{n}", String(skipped));
          note.hidden = false;
        }
        // The server escaped it; no script can run from it under this page's policy.
        for (const html of news.rows) list.insertAdjacentHTML("afterbegin", html);
        while (list.children.length > MAX_ROWS) list.lastElementChild.remove();
        byId("tail-empty").hidden = true;
      });
    };
    const settle = () => {
      if (paused || document.hidden) { close(); show("paused"); } else open();
      button.textContent = paused ? button.dataset.resume : button.dataset.pause;
      button.setAttribute("aria-pressed", String(paused));
    };
    button.addEventListener("click", () => { paused = !paused; settle(); });
    document.addEventListener("visibilitychange", settle);
    addEventListener("pagehide", close);
    settle();
  }
})();
