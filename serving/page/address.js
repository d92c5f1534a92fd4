/**
 * What the page shows, as it stands in the address behind '#', so that Back, reload and a shared link work.
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Box in pixels of the upright picture
 * @typedef {object} State
 * @property {''|'upload'|'image_id'|'item_id'|'similar'|'id'} source what `value` names; 'id' is an item's or a picture's
 * @property {string} value an id, or the number of a picture uploaded in this tab
 * @property {string} picture with an item: the id of the picture that stands for it, or ''
 * @property {Box|null} crop
 * @property {Map<string, string>} where
 * @property {boolean} group one answer per item
 * @property {number} k
 */

export const COUNTS = [12, 24, 48, 96];
const SOURCES = ['upload', 'image_id', 'item_id', 'similar', 'id'];
const WHERE = 'where.';

/** Reads the part of an address behind '#'. What it does not know is left out. @returns {State} */
export function readState(hash) {
  const fields = new URLSearchParams(hash.slice(1));
  const source = SOURCES.find((name) => fields.get(name)) ?? '';
  const crop = (fields.get('crop') ?? '').split(',').map(Number);
  const filters = [...fields].filter(([name]) => name.startsWith(WHERE));
  return {
    source,
    value: fields.get(source) ?? '',
    picture: fields.get('picture') ?? '',
    crop: crop.length === 4 && crop.every(Number.isInteger) ? toBox(crop) : null,
    where: new Map(filters.map(([name, value]) => [name.slice(WHERE.length), value])),
    group: fields.get('group_by') === 'item',
    k: COUNTS.find((count) => String(count) === fields.get('k')) ?? 24,
  };
}

/** Writes a state as `readState` reads it. @param {State} state @returns {string} */
export function writeState(state) {
  const fields = new URLSearchParams();
  if (state.source) fields.set(state.source, state.value);
  if (state.picture) fields.set('picture', state.picture);
  if (state.crop) fields.set('crop', cropText(state.crop));
  for (const [name, value] of state.where) fields.set(WHERE + name, value);
  if (state.group) fields.set('group_by', 'item');
  if (state.k !== 24) fields.set('k', state.k);
  return `#${fields}`;
}

/** The same settings, another thing to look for. @returns {State} */
export function lookFor(state, source, value, picture = '') {
  return { ...state, source, value, picture, crop: null };
}

/** A box as the API takes it in a query string. */
export const cropText = ({ x, y, width, height }) => [x, y, width, height].join();

const toBox = ([x, y, width, height]) => ({ x, y, width, height });
