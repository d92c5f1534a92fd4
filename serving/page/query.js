/** The panel that shows what is searched for: the picture with the box on it, its name, the kinds of search. */

import { lookFor, writeState } from '/address.js';
import { call, imagePath, read, thumbnailPath } from '/api.js';
import { BoxEditor } from '/box.js';
import { byId, make } from '/dom.js';
import { copy, placeholder, titleOf } from '/tiles.js';

const SIZE_PX = 640;

/** The query's panel. */
export class QueryPanel {
  /** @param {(box: object|null) => void} onBox called with the part to search for, null for the whole */
  constructor(onBox) {
    this.stage = byId('stage');
    this.box = new BoxEditor(this.stage, onBox, (box) => this.#tellBox(box));
    this.shown = '';
    this.loading = new AbortController(); // of the picture shown, whatever is searched for on it
    byId('clear-part').onclick = () => (onBox(null), this.stage.focus());
  }

  /**
   * Shows what a state names; the picture is loaded only where it is another one.
   *
   * @param {import('/address.js').State} state
   * @param {File|undefined} file the uploaded picture, where that is the source
   */
  async show(state, file) {
    const imageId = state.source === 'image_id' ? state.value : state.picture;
    const shown = `${state.source === 'upload'} ${imageId || state.value}`;
    const item = ['item_id', 'similar'].includes(state.source) ? state.value : '';
    if (shown === this.shown) {
      this.box.show(state.crop);
      this.#offerKinds(state, imageId, item || this.item);
      return;
    }
    this.shown = shown;
    this.item = item;
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    this.#size(null);
    this.box.show(state.crop);
    this.#caption(state.source === 'upload' ? (file?.name ?? 'A picture of yours') : state.value, '');
    this.#offerKinds(state, imageId, item);
    this.stage.hidden = !imageId && !file;
    this.#picture(null);
    if (file) await this.#draw(file, signal);
    else if (imageId) await Promise.all([this.#loadPicture(imageId, signal), this.#loadName(state, imageId, signal)]);
  }

  /** Takes a picture's size from an answer: the only source where the browser cannot draw the file. */
  measured(size) {
    if (this.box.size) return;
    this.#size(size);
    this.box.show(this.box.box);
  }

  async #loadPicture(imageId, signal) {
    try {
      const response = await call(thumbnailPath(imageId, SIZE_PX), { signal });
      const [width, height] = ['Picture-Width', 'Picture-Height'].map((name) => Number(response.headers.get(name)));
      await this.#draw(await response.blob(), signal, { width, height });
    } catch {
      if (!signal.aborted) this.#picture(placeholder('This picture is gone'));
    }
  }

  async #loadName(state, imageId, signal) {
    try {
      const image = await read(imagePath(imageId), { signal });
      this.item = image.item_id;
      this.#caption(titleOf(image), image.item_id);
      this.#offerKinds(state, imageId, image.item_id);
    } catch {
      // The id stays as its name; what is wrong with it, the search says.
    }
  }

  async #draw(blob, signal, size) {
    const img = make('img', { alt: 'The picture searched for', draggable: false, src: URL.createObjectURL(blob) });
    try {
      await img.decode();
      if (signal.aborted) return;
      this.#size(size ?? { width: img.naturalWidth, height: img.naturalHeight });
      this.#picture(img);
      this.box.show(this.box.box);
    } catch {
      if (!signal.aborted) this.#picture(placeholder('This browser cannot show the picture'));
    } finally {
      URL.revokeObjectURL(img.src);
    }
  }

  #picture(element) {
    this.stage.querySelector('img, .gone')?.remove();
    if (element) this.stage.prepend(element);
  }

  #size(size) {
    this.box.size = size;
    this.stage.classList.toggle('blank', !size);
    this.stage.style.setProperty('--ratio', size ? size.width / size.height : 1);
  }

  #caption(title, itemId) {
    const line = make('p', {}, make('b', {}, title));
    byId('caption').replaceChildren(line);
    if (!itemId) return;
    const button = make('button', { className: 'plain', onclick: () => copy(itemId, button) }, 'Copy id');
    byId('caption').append(make('p', { className: 'quiet' }, itemId, ' ', button));
  }

  #offerKinds(state, imageId, item) {
    byId('kinds').hidden = !item;
    if (!item) return;
    const [alike, similar] = byId('kinds').children;
    alike.href = writeState(imageId ? lookFor(state, 'image_id', imageId) : lookFor(state, 'item_id', item));
    similar.href = writeState(lookFor(state, 'similar', item, imageId));
    alike.ariaCurrent = String(state.source !== 'similar');
    similar.ariaCurrent = String(state.source === 'similar');
  }

  #tellBox(box) {
    byId('part').hidden = !box;
    if (box) byId('part').firstElementChild.textContent = `${box.width} × ${box.height} px at ${box.x}, ${box.y}`;
  }
}
