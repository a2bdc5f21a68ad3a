// Search over the index that search_index.js brings; works from a folder, without a server.
"use strict";
(function () {
  const box = document.getElementById("query");
  const found = document.getElementById("found");
  const said = found.querySelector("[role=status]");
  const list = found.querySelector("ol");
  const most = 20;
  let wanted = null;

  if (window.matchMedia("(max-width: 60rem)").matches) {
    document.querySelector(".toc")?.removeAttribute("open");
  }

  const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");

  function load() {
    wanted ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = "search_index.js";
      script.onload = () => resolve(window.LORAKIT_INDEX.map((row) => ({ ...row, head: plain(row.heading), body: plain(row.text) })));
      script.onerror = reject;
      document.head.append(script);
    });
    return wanted;
  }

  // All words must occur; a hit in the heading counts most, at a word's start more than inside one; together more than apart.
  function score(row, words) {
    let sum = row.body.includes(words.join(" ")) ? words.length : 0;
    for (const word of words) {
      const begins = new RegExp("(^|[^\\p{L}\\p{N}])" + word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "u");
      const points = begins.test(row.head) ? 20 : row.head.includes(word) ? 10 : begins.test(row.body) ? 3 : row.body.includes(word) ? 1 : 0;
      if (!points) return 0;
      sum += points;
    }
    return sum;
  }

  // The text around the first hit, every hit marked; textContent only, so nothing in it is read as HTML.
  function snippet(text, words) {
    const low = text.toLowerCase();
    const phrase = low.indexOf(words.join(" "));
    const first = phrase >= 0 ? phrase : Math.min(...words.map((word) => low.indexOf(word)).filter((place) => place >= 0));
    const start = Number.isFinite(first) ? Math.max(0, first - 60) : 0;
    const part = (start ? "… " : "") + text.slice(start, start + 200) + (text.length > start + 200 ? " …" : "");
    const line = document.createElement("p");
    const splitter = new RegExp("(" + words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") + ")", "i");
    part.split(splitter).forEach((piece, i) => {
      if (i % 2 === 0) return line.append(piece);
      const mark = document.createElement("mark");
      mark.textContent = piece;
      line.append(mark);
    });
    return line;
  }

  function show(row, words) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = row.file + (row.anchor ? "#" + encodeURIComponent(row.anchor) : "");
    link.textContent = row.heading === row.page ? row.page : row.page + " › " + row.heading;
    link.addEventListener("click", close);
    item.append(link, snippet(row.text, words));
    return item;
  }

  function close() {
    found.hidden = true;
  }

  async function search() {
    const words = [...new Set(plain(box.value).split(/\s+/).filter(Boolean))];
    if (!words.length) return close();
    found.hidden = false;
    let index;
    try {
      index = await load();
    } catch {
      said.textContent = "The search index, search_index.js, is not beside this page.";
      return;
    }
    if (!words.every((word) => plain(box.value).includes(word))) return; // typed on meanwhile
    const hits = index.map((row) => [score(row, words), row]).filter((hit) => hit[0]).sort((a, b) => b[0] - a[0]);
    const count = hits.length === 1 ? "1 place" : hits.length + " places";
    said.textContent = hits.length ? count + (hits.length > most ? ", the best " + most + " of them:" : ":") : "Nothing found for “" + box.value.trim() + "”.";
    list.replaceChildren(...hits.slice(0, most).map((hit) => show(hit[1], words)));
  }

  box.addEventListener("input", search);
  box.addEventListener("focus", () => load().catch(() => {}));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !found.hidden) {
      box.value = "";
      close();
    } else if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
      event.preventDefault();
      box.focus();
    }
  });
})();
