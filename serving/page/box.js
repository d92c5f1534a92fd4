/** The box on the query picture: drawn, moved and resized with a pointer or with the keyboard. */

const STEP = 0.02; // of the picture's longer side, per key press
const SMALLEST_DRAG_PX = 6; // on the screen; anything shorter is a click
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CORNERS = ['nw', 'ne', 'sw', 'se'];

/** The nearest box of at least 1 pixel inside a picture, in whole pixels. */
export function fit({ x, y, width, height }, size) {
  const wide = Math.round(Math.min(Math.max(width, 1), size.width));
  const high = Math.round(Math.min(Math.max(height, 1), size.height));
  const within = (at, most) => Math.round(Math.min(Math.max(at, 0), most));
  return { x: within(x, size.width - wide), y: within(y, size.height - high), width: wide, height: high };
}

/** Lets a box be drawn on an element that a picture fills. */
export class BoxEditor {
  /**
   * @param {HTMLElement} stage focusable and positioned
   * @param {(box: object|null) => void} onSearch called when a box is finished, or cleared
   * @param {(box: object|null) => void} onMove called whenever the box looks different
   */
  constructor(stage, onSearch, onMove) {
    Object.assign(this, { stage, onSearch, onMove, enabled: true, size: null, box: null, drag: null });
    this.frame = document.createElement('div');
    this.frame.className = 'box';
    this.frame.hidden = true;
    for (const corner of CORNERS) this.frame.append(Object.assign(document.createElement('i'), { className: corner }));
    stage.append(this.frame);
    stage.addEventListener('pointerdown', (event) => this.#start(event));
    stage.addEventListener('pointermove', (event) => this.#drag(event));
    stage.addEventListener('pointerup', (event) => this.#finish(event));
    stage.addEventListener('pointercancel', () => this.#giveUp());
    stage.addEventListener('keydown', (event) => this.#key(event));
  }

  /** Shows a box, or none. @param {object|null} box in pixels of the picture, whose size is `this.size` */
  show(box) {
    this.box = box && this.size ? fit(box, this.size) : box;
    this.frame.hidden = !(this.box && this.size);
    if (!this.frame.hidden) {
      const { width, height } = this.size;
      const percent = { left: box.x / width, top: box.y / height, width: box.width / width, height: box.height / height };
      for (const [side, part] of Object.entries(percent)) this.frame.style[side] = `${100 * part}%`;
    }
    this.onMove(this.box);
  }

  #at(event) {
    const frame = this.stage.getBoundingClientRect();
    const along = (at, from, length, most) => Math.min(Math.max((at - from) / length, 0), 1) * most;
    return {
      x: along(event.clientX, frame.left, frame.width, this.size.width),
      y: along(event.clientY, frame.top, frame.height, this.size.height),
    };
  }

  #start(event) {
    if (!this.enabled || !this.size || !event.isPrimary || event.button !== 0) return;
    const at = this.#at(event);
    const corner = CORNERS.indexOf(event.target.className);
    const moved = event.target === this.frame;
    const anchor = corner < 0 ? at : this.#opposite(corner);
    this.drag = { before: this.box, anchor, moved, resized: corner >= 0, screen: [event.clientX, event.clientY] };
    this.stage.setPointerCapture(event.pointerId);
  }

  #opposite(corner) {
    const { x, y, width, height } = this.box;
    return { x: corner % 2 ? x : x + width, y: corner > 1 ? y : y + height };
  }

  #drag(event) {
    if (!this.drag || this.#isClick(event)) return;
    const { before, anchor, moved } = this.drag;
    const at = this.#at(event);
    if (moved) {
      this.show(fit({ ...before, x: before.x + at.x - anchor.x, y: before.y + at.y - anchor.y }, this.size));
      return;
    }
    const corner = { x: Math.min(at.x, anchor.x), y: Math.min(at.y, anchor.y) };
    this.show(fit({ ...corner, width: Math.abs(at.x - anchor.x), height: Math.abs(at.y - anchor.y) }, this.size));
  }

  #isClick(event) {
    const [x, y] = this.drag.screen;
    this.drag.long ||= Math.hypot(event.clientX - x, event.clientY - y) >= SMALLEST_DRAG_PX;
    return !this.drag.long;
  }

  #finish(event) {
    if (!this.drag) return;
    const click = this.#isClick(event);
    this.drag = null;
    if (!click) this.onSearch(this.box);
  }

  #giveUp() {
    if (this.drag) this.show(this.drag.before);
    this.drag = null;
  }

  #key(event) {
    if (!this.enabled || !this.size || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' && this.box) this.onSearch(null);
    else if (event.key === 'Enter' && this.box) this.onSearch(this.box);
    else if (event.key in ARROWS || event.key === 'Enter') this.#nudge(...(ARROWS[event.key] ?? [0, 0]), event.shiftKey);
    else return;
    event.preventDefault();
  }

  #nudge(right, down, resize) {
    const { width, height } = this.size;
    const { box } = this;
    if (!box) {
      this.show(fit({ x: width / 4, y: height / 4, width: width / 2, height: height / 2 }, this.size));
      return;
    }
    const step = Math.max(1, Math.round(STEP * Math.max(width, height)));
    const [across, along] = resize ? ['width', 'height'] : ['x', 'y'];
    this.show(fit({ ...box, [across]: box[across] + right * step, [along]: box[along] + down * step }, this.size));
  }
}
