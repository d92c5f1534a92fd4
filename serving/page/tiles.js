/** Results as tiles: picture, score, title, and what else is known. */

import { call, hasKey, thumbnailPath } from '/api.js';
import { make, template } from '/dom.js';

const TITLES = ['title', 'name', 'product_name'];
const SIZE_PX = 320;

/** What to call a picture: its title where the catalog has one. */
export function titleOf({ item_id: itemId, attributes }) {
  return TITLES.map((name) => attributes[name]).find(Boolean) ?? itemId;
}

/** Draws what stands for a picture that cannot be had. */
export function placeholder(label) {
  const gone = template('gone');
  gone.ariaLabel = label;
  return gone;
}

/**
 * A tile for one answer.
 *
 * @param {{score: number, item_id: string, image_id: string, attributes: Record<string, string>}} hit
 * @param {{picture: string, item: string}} links addresses that search from this picture, and for items like it
 * @returns {HTMLLIElement}
 */
export function tile(hit, links) {
  const title = titleOf(hit);
  const item = template('tile');
  const [open, similar] = item.querySelectorAll('a');
  open.href = links.picture;
  open.title = [title, ...facts(hit).map((fact) => fact.join(': '))].join('\n');
  similar.href = links.item;
  showThumbnail(item.querySelector('img'), hit.image_id, title);
  item.querySelector('.score span').textContent = hit.score.toFixed(3);
  item.querySelector('.score i').style.setProperty('--score', Math.min(Math.max(hit.score, 0), 1));
  item.querySelector('summary').textContent = title;
  const terms = facts(hit).map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value)));
  item.querySelector('dl').append(...terms);
  item.querySelector('button').onclick = (event) => copy(hit.item_id, event.target);
  return item;
}

/** Gives the browser's few connections back to what is asked for next. @param {HTMLElement} grid with tiles */
export function stopLoading(grid) {
  for (const img of grid.querySelectorAll('img')) if (!img.complete) img.removeAttribute('src');
}

/** Puts a text on the clipboard and says so on the button for a moment. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // browsers keep it from pages on plain http
    const field = make('textarea', { value: text });
    button.after(field);
    field.select();
    document.execCommand('copy');
    field.remove();
    button.focus();
  }
  const label = button.textContent;
  if (label === 'Copied') return;
  button.textContent = 'Copied';
  setTimeout(() => (button.textContent = label), 1500);
}

function facts({ item_id: item, image_id: picture, attributes }) {
  const shown = TITLES.find((name) => attributes[name]);
  return [...Object.entries(attributes).filter(([name]) => name !== shown), ['item', item], ['picture', picture]];
}

function showThumbnail(img, imageId, title) {
  img.alt = title;
  img.onerror = () => img.replaceWith(placeholder(`${title} (no picture)`));
  if (!hasKey()) {
    img.loading = 'lazy';
    img.src = thumbnailPath(imageId, SIZE_PX);
    return;
  }
  img.dataset.imageId = imageId;
  nearby.observe(img);
}

// An <img> cannot send the key, so its lazy loading is done here.
const nearby = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      nearby.unobserve(target);
      load(target);
    }
  }
}, { rootMargin: '400px' });

async function load(img) {
  try {
    const response = await call(thumbnailPath(img.dataset.imageId, SIZE_PX));
    img.onload = () => URL.revokeObjectURL(img.src);
    img.src = URL.createObjectURL(await response.blob());
  } catch {
    img.onerror();
  }
}
