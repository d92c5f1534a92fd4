/** The page: what the address names is searched for and shown; whatever the user does changes the address. */

import { COUNTS, lookFor, readState, writeState } from '/address.js';
import { Problem, imagePath, read, search } from '/api.js';
import { byId, make } from '/dom.js';
import { Filters } from '/filters.js';
import { QueryPanel } from '/query.js';
import { stopLoading, tile } from '/tiles.js';

const uploads = new Map(); // pictures given in this tab, by number, so that Back finds them
const query = new QueryPanel((crop) => go(withBox(crop)));
const filters = new Filters(byId('filters').querySelector('form'), byId('chips'), (where) => go({ ...state, where }));

const MOST_UPLOADS = 20;
const GONE = { title: 'That picture is gone.', detail: 'Pictures of yours stay in the tab they were given in. Give it again.' };

let state = readState('');
let index = null; // what /v1/index said last
let newest = new AbortController(); // only the newest search is shown

/** Goes to a state by way of the address, so that Back leads here again. */
function go(next) {
  const hash = writeState(next);
  if (hash === location.hash) show();
  else location.hash = hash;
}

function withBox(crop) {
  // A box is drawn on a picture: what was a search for its item becomes one for a part of it.
  return state.picture ? { ...lookFor(state, 'image_id', state.picture), crop } : { ...state, crop };
}

async function show() {
  newest.abort();
  newest = new AbortController();
  const { signal } = newest;
  stopLoading(byId('grid'));
  state = readState(location.hash);
  showSettings();
  if (!state.source) return;
  const file = uploads.get(state.value);
  byId('results').ariaBusy = 'true';
  try {
    if (state.source === 'id') await findOut(signal);
    const loading = query.show(state, file);
    if (state.source === 'upload' && !file) throw new Problem(0, GONE);
    showAnswer(await search(state, file, { signal, onBusy: tellBusy }));
    await loading;
  } catch (error) {
    if (!signal.aborted) showNothing(error);
  }
}

function showSettings() {
  const searching = Boolean(state.source);
  byId('start').hidden = searching;
  byId('desk').hidden = !searching;
  byId('group').checked = state.group || state.source === 'similar';
  byId('group').disabled = state.source === 'similar';
  byId('count').value = state.k;
  filters.show(state.where);
  document.title = state.source && state.source !== 'upload' ? `${state.value} · Shelfmark` : 'Shelfmark';
  if (!searching) showError(null);
}

/** Finds out whether an id that was typed is a picture's or an item's, and says so in the address. */
async function findOut(signal) {
  const image = await read(imagePath(state.value), { signal, onBusy: tellBusy }).catch((error) => {
    if (error.status !== 404) throw error;
  });
  state = { ...state, source: image ? 'image_id' : 'item_id' };
  history.replaceState(null, '', writeState(state));
}

function showAnswer({ version, hits, picture }) {
  if (picture) query.measured(picture);
  showError(null);
  const focused = byId('grid').contains(document.activeElement);
  byId('grid').replaceChildren(...hits.map((hit) => tile(hit, {
    picture: writeState(lookFor(state, 'image_id', hit.image_id)),
    item: writeState(lookFor(state, 'similar', hit.item_id, hit.image_id)),
  })));
  byId('results').ariaBusy = 'false';
  if (focused) byId('results').focus({ preventScroll: true });
  const noun = byId('group').checked ? 'item' : 'picture';
  const none = state.where.size ? 'Nothing here matches the filters.' : 'Nothing found.';
  byId('status').textContent = hits.length ? `${hits.length} ${noun}${hits.length === 1 ? '' : 's'}, most alike first` : none;
  if (index && version !== index.version) refresh();
}

function showNothing(error) {
  byId('grid').replaceChildren();
  byId('results').ariaBusy = 'false';
  byId('status').textContent = '';
  showError(error);
}

function showError(error) {
  const words = error ? [make('strong', {}, error.title ?? 'The page failed.'), ' ', error.message] : [];
  byId('error').replaceChildren(...words);
  byId('error').hidden = !error;
  if (error) byId('error').scrollIntoView({ block: 'nearest' });
}

function tellBusy(seconds) {
  byId('status').textContent = `The server is busy. Trying again in ${seconds} s.`;
}

/** Reads what describes the index, and shows it. */
async function refresh() {
  try {
    const [description, { attributes }] = await Promise.all([read('/v1/index'), read('/v1/attributes')]);
    index = description;
    filters.describe(attributes, index.vectors);
    byId('untrained').hidden = !index.untrained;
    document.body.classList.toggle('no-pictures', !index.pictures);
    query.box.enabled = index.pictures;
    showAbout();
  } catch (error) {
    showError(error);
  }
}

function showAbout() {
  const { encoder, recall, kind } = index;
  const found = kind === 'exact' ? 'exact search' : `${(100 * recall.measured).toFixed(1)}% at ${recall.k}`;
  const facts = {
    Pictures: index.vectors.toLocaleString(),
    Recall: found,
    Encoder: `${encoder.backbone}, ${encoder.precision}`,
    Version: index.version,
    Snapshot: index.snapshot,
  };
  byId('about').replaceChildren(...Object.entries(facts).map(([name, fact]) =>
    make('div', {}, make('dt', {}, name), make('dd', {}, fact))));
}

async function upload(file) {
  if (!file) return;
  await described;
  if (index && !index.pictures) {
    showError(new Problem(422, { title: 'No pictures here.', detail: 'This server searches by id only (--no_pictures).' }));
    return;
  }
  const most = index?.limits.upload_bytes ?? Infinity;
  if (file.size > most) {
    const [found, allowed] = [file.size, most].map((bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`);
    showError(new Problem(413, { title: 'Too big.', detail: `This picture has ${found}; at most ${allowed} can be sent.` }));
    return;
  }
  const number = String(Date.now());
  uploads.set(number, file);
  if (uploads.size > MOST_UPLOADS) uploads.delete(uploads.keys().next().value);
  scrollTo(0, 0);
  go(lookFor(state, 'upload', number));
}

const dragsFiles = (event) => event.dataTransfer?.types.includes('Files') && !dragsOwn;
let dragsOwn = false; // a result that is dragged about is no picture that is dropped

function listen() {
  addEventListener('hashchange', show);
  for (const input of [byId('file'), byId('camera')]) {
    input.onchange = () => (upload(input.files[0]), (input.value = ''));
  }
  for (const button of document.querySelectorAll('.choose')) button.onclick = () => byId('file').click();
  for (const button of document.querySelectorAll('.camera')) button.onclick = () => byId('camera').click();
  byId('find').onsubmit = (event) => {
    event.preventDefault();
    byId('id').blur();
    go(lookFor(state, 'id', byId('id').value.trim()));
  };
  byId('group').onchange = (event) => go({ ...state, group: event.target.checked });
  byId('count').append(...COUNTS.map((count) => make('option', { value: count }, `${count}`)));
  byId('count').onchange = (event) => go({ ...state, k: Number(event.target.value) });
  byId('grid').addEventListener('click', (event) => event.target.closest('a') && scrollTo(0, 0));
  byId('skip').onclick = () => byId('results').focus();
  document.addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.ctrlKey || event.metaKey || event.target.matches('input, select, textarea')) return;
    event.preventDefault();
    byId('id').select();
  });
  document.addEventListener('paste', (event) => upload(event.clipboardData.files[0]));
  listenToDrops();
}

function listenToDrops() {
  const mark = (on) => document.body.classList.toggle('dropping', on);
  document.addEventListener('dragstart', () => (dragsOwn = true));
  document.addEventListener('dragend', () => (dragsOwn = false));
  document.addEventListener('dragover', (event) => {
    if (!dragsFiles(event)) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener('dragleave', (event) => event.relatedTarget || mark(false));
  document.addEventListener('drop', (event) => {
    if (!dragsFiles(event)) return;
    event.preventDefault();
    mark(false);
    upload(event.dataTransfer.files[0]);
  });
}

/** The mark in the header, as the tab's icon. */
function showIcon() {
  const mark = new XMLSerializer().serializeToString(document.querySelector('.mark svg'));
  const href = URL.createObjectURL(new Blob([mark], { type: 'image/svg+xml' }));
  document.head.append(make('link', { rel: 'icon', href }));
}

listen();
showIcon();
byId('filters').open = matchMedia('(min-width: 56rem)').matches;
const described = refresh();
show();
