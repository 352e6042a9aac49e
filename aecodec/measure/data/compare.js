"use strict";

const SCALES = [1, 2, 4, 8]; // CSS pixels per pixel of the picture
const KEY_PAN = 40; // CSS pixels
const ORIGINAL = "original";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const grouped = (count) => count.toLocaleString("en").replaceAll(",", "\u202f");

/** One picture's viewer: two pictures over each other, a divider, zoom and movement. */
class Viewer {
  constructor(section, picture) {
    this.picture = picture;
    this.root = document.getElementById("viewer").content.cloneNode(true).firstElementChild;
    this.stage = this.find(".stage");
    this.divider = this.find(".divider");
    this.sides = { left: this.find(".side.left"), right: this.find(".side.right") };
    this.selects = { left: this.find("select.left"), right: this.find("select.right") };
    this.split = 0.5; // of the stage's width
    this.zoom = null; // null fits the picture into the stage
    this.x = this.y = 0; // where the picture's corner lies in the stage
    this.pointers = new Map();
    section.querySelector(".facts").after(this.root);
    this.stage.setAttribute("aria-label", `${picture.name}, two versions beside each other`);
    this.fillControls();
    this.listen();
    this.resize();
    this.showSides();
    this.moveDivider(0.5);
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  /** The versions at the chosen quality, by name. */
  get versions() {
    const { name, width, height, bytes, uri, comparisons } = this.picture;
    const original = { codec: ORIGINAL, label: "Original", bytes, uri, name, width, height };
    const chosen = comparisons[this.find(".qualities").selectedIndex];
    return new Map([original, ...chosen.coded].map((one) => [one.codec, one]));
  }

  fillControls() {
    const qualities = this.find(".qualities");
    for (const { quality } of this.picture.comparisons) qualities.add(new Option(quality));
    this.find(".quality").hidden = qualities.length < 2;
    for (const [codec, { label }] of this.versions) {
      this.selects.left.add(new Option(label, codec));
      this.selects.right.add(new Option(label, codec));
    }
    this.selects.left.value = ORIGINAL;
    this.selects.right.value = this.picture.comparisons[0].coded[0].codec;
    for (const zoom of [null, ...SCALES]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = zoom === null ? "Fit" : `${zoom}×`;
      button.addEventListener("click", () => this.zoomTo(zoom));
      button.zoom = zoom;
      this.find(".zooms").append(button);
    }
  }

  listen() {
    this.find(".qualities").addEventListener("change", () => this.showSides());
    this.selects.left.addEventListener("change", () => this.show("left"));
    this.selects.right.addEventListener("change", () => this.show("right"));
    this.find(".swap").addEventListener("click", () => this.swap());
    this.stage.addEventListener("pointerdown", (event) => this.down(event));
    this.stage.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.stage.addEventListener(name, (event) => this.up(event));
    }
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("keydown", (event) => this.key(event));
    const observer = new ResizeObserver(() => this.resize());
    observer.observe(this.root);
    observer.observe(document.body); // what stands above may push the stage about
  }

  // ---- what is shown ----

  swap() {
    const { left, right } = this.selects;
    [left.value, right.value] = [right.value, left.value];
    this.showSides();
  }

  showSides() {
    this.show("left");
    this.show("right");
  }

  /** Put the chosen version on a side; the old one stays until the new one is decoded. */
  async show(side) {
    const version = this.versions.get(this.selects[side].value);
    const image = new Image();
    image.alt = `${this.picture.name}: ${version.label}`;
    image.draggable = false;
    image.src = version.uri;
    this.sides[side].wanted = image;
    await image.decode();
    if (this.sides[side].wanted !== image) return; // another choice was made meanwhile
    this.sides[side].querySelector("img").replaceWith(image);
    this.label(side, version);
    this.place();
    this.describeDivider();
  }

  label(side, version) {
    const strong = document.createElement("strong");
    const rest = document.createElement("span");
    strong.textContent = version.label;
    rest.textContent = `${grouped(version.bytes)} bytes`;
    if (version.codec !== ORIGINAL) {
      rest.textContent += ` · ${version.psnr === null ? "∞" : version.psnr.toFixed(2)} dB`;
    }
    this.sides[side].querySelector(".tag").replaceChildren(strong, rest);
  }

  // ---- divider ----

  moveDivider(split) {
    this.split = clamp(split, 0, 1);
    this.stage.style.setProperty("--split", `${100 * this.split}%`);
    this.describeDivider();
  }

  describeDivider() {
    const percent = Math.round(100 * this.split);
    const left = this.selects.left.selectedOptions[0].label;
    const right = this.selects.right.selectedOptions[0].label;
    this.divider.setAttribute("aria-valuenow", percent);
    this.divider.setAttribute("aria-valuetext", `${percent} % ${left}, ${100 - percent} % ${right}`);
  }

  // ---- zoom and movement ----

  get fit() {
    const { width, height } = this.picture;
    const scale = Math.min(this.root.clientWidth / width, (0.8 * window.innerHeight) / height);
    return scale > 1 ? Math.min(Math.floor(scale), SCALES.at(-1)) : scale;
  }

  get scale() {
    return this.zoom ?? this.fit;
  }

  /** The stage is as large as the picture when it fits. */
  resize() {
    const { width, height } = this.picture;
    this.stage.style.width = `${Math.round(width * this.fit)}px`;
    this.stage.style.height = `${Math.round(height * this.fit)}px`;
    this.snap();
    this.place();
  }

  /** Let the stage begin at a whole pixel, or the browser would resample the pictures. */
  snap() {
    this.stage.style.left = this.stage.style.top = "0";
    const { left, top } = this.stage.getBoundingClientRect();
    const [x, y] = [left + window.scrollX, top + window.scrollY];
    this.stage.style.left = `${Math.round(x) - x}px`;
    this.stage.style.top = `${Math.round(y) - y}px`;
  }

  /** Zoom, keeping what is at a point of the stage (its centre by default) where it is. */
  zoomTo(zoom, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const before = this.scale;
    const least = Math.min(this.fit, 1);
    this.zoom = zoom === null ? null : clamp(zoom, least, SCALES.at(-1));
    this.x = x - ((x - this.x) * this.scale) / before;
    this.y = y - ((y - this.y) * this.scale) / before;
    this.place();
  }

  /** Move both pictures to where they belong, no further than their edges. */
  place() {
    const { width, height } = this.picture;
    const inside = (offset, stage, size) =>
      size <= stage ? (stage - size) / 2 : clamp(offset, stage - size, 0);
    this.x = inside(this.x, this.stage.clientWidth, width * this.scale);
    this.y = inside(this.y, this.stage.clientHeight, height * this.scale);
    const [x, y] = [Math.round(this.x), Math.round(this.y)]; // no blurred edges
    for (const image of this.stage.querySelectorAll("img")) {
      image.style.transform = `translate(${x}px, ${y}px) scale(${this.scale})`;
    }
    this.stage.classList.toggle("pixels", this.scale >= 1);
    this.stage.classList.toggle("movable", this.movable);
    for (const button of this.find(".zooms").children) {
      button.setAttribute("aria-pressed", button.zoom === this.zoom);
    }
  }

  get movable() {
    const { width, height } = this.picture;
    const { clientWidth, clientHeight } = this.stage;
    return width * this.scale > clientWidth + 1 || height * this.scale > clientHeight + 1;
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.place();
  }

  // ---- mouse, touch, keys ----

  at(event) {
    const box = this.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  down(event) {
    if (event.button !== 0) return;
    this.pointers.set(event.pointerId, this.at(event));
    this.stage.setPointerCapture(event.pointerId);
    this.panning = this.movable && event.target !== this.divider;
    this.stage.classList.toggle("moving", this.panning);
    if (event.target === this.divider) this.divider.focus({ preventScroll: true });
    if (!this.panning) this.moveDivider(this.at(event).x / this.stage.clientWidth);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) return;
    const now = this.at(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other !== undefined) {
      const distance = (p) => Math.hypot(p.x - other.x, p.y - other.y);
      const [x, y] = [(now.x + other.x) / 2, (now.y + other.y) / 2];
      this.zoomTo((this.scale * distance(now)) / Math.max(distance(before), 1), x, y);
      this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    } else if (this.panning) {
      this.pan(now.x - before.x, now.y - before.y);
    } else {
      this.moveDivider(now.x / this.stage.clientWidth);
    }
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.stage.classList.remove("moving");
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const { x, y } = this.at(event);
    this.zoomTo(this.scale * Math.exp(-event.deltaY / 200), x, y);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = this.keyZoom(event.key) ??
      (event.target === this.divider ? this.keyDivider(event.key) : this.keyPan(event.key));
    if (action === undefined) return;
    event.preventDefault();
    action();
  }

  keyZoom(key) {
    const larger = SCALES.find((scale) => scale > this.scale + 0.01) ?? SCALES.at(-1);
    const smaller = SCALES.findLast((scale) => scale < this.scale - 0.01) ?? null;
    const zooms = { "+": larger, "=": larger, "-": smaller, 0: null };
    return key in zooms ? () => this.zoomTo(zooms[key]) : undefined;
  }

  keyDivider(key) {
    const steps = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02 };
    Object.assign(steps, { PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 });
    return key in steps ? () => this.moveDivider(this.split + steps[key]) : undefined;
  }

  keyPan(key) {
    const steps = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!this.movable || !(key in steps)) return undefined; // then arrows scroll the page
    return () => this.pan(KEY_PAN * steps[key][0], KEY_PAN * steps[key][1]);
  }
}

/** A button that goes over to the other of light and dark. */
function themeButton(button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const describe = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    describe();
  });
  system.addEventListener("change", describe);
  describe();
  button.hidden = false;
}

const { pictures } = JSON.parse(document.getElementById("comparisons").textContent);
for (const section of document.querySelectorAll("section.picture")) {
  new Viewer(section, pictures[Number(section.dataset.picture)]);
}
themeButton(document.getElementById("theme"));
