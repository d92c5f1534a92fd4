/** Calls to the server: the key, patience with a busy server, problems in words, and the requests themselves. */

import { cropText } from '/address.js';
import { byId } from '/dom.js';

const KEY = 'shelfmark-key';
const MOST_RETRIES = 3;

const TITLES = {
  404: 'Not found.', 408: 'That took too long.', 413: 'Too big.', 415: 'Not a picture.', 429: 'The server is busy.',
  500: 'The server failed.', 503: 'The server is busy.',
};

/** An answer that is none: `title` in plain words, `message` the detail of the server's problem document. */
export class Problem extends Error {
  constructor(status, { title = TITLES[status] ?? 'That did not work.', detail, reason }) {
    const said = (detail ?? `the server answered with status ${status}`).replace(/^image: /, '');
    super(said.replace(/^./, (letter) => letter.toUpperCase()));
    this.status = status;
    this.title = reason ? 'This picture cannot be used.' : title;
  }
}

/** Whether requests need a header that an <img> cannot send. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/**
 * Fetches from this server. Asks for a key where one is needed, and waits as long as a busy server asks.
 *
 * @param {string} path
 * @param {RequestInit & {onBusy?: (seconds: number) => void}} options
 * @returns {Promise<Response>} always a good one
 * @throws {Problem} and AbortError
 */
export async function call(path, { onBusy = () => {}, ...options } = {}) {
  for (let retries = 0; ; retries += 1) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const response = await send(path, { ...options, headers });
    if (response.ok) return response;
    const wait = response.headers.get('Retry-After');
    if (response.status === 401) {
      await replaceKey(key);
      options.signal?.throwIfAborted();
    } else if ([429, 503].includes(response.status) && wait !== null && retries < MOST_RETRIES) {
      onBusy(Number(wait));
      await pause(Number(wait), options.signal);
    } else {
      const { detail, reason } = await response.json().catch(() => ({}));
      throw new Problem(response.status, { detail, reason });
    }
  }
}

/** A JSON document of this server. */
export const read = async (path, options) => (await call(path, options)).json();

export const thumbnailPath = (imageId, size) => `/v1/images/${encodeURIComponent(imageId)}/thumbnail?size=${size}`;
export const imagePath = (imageId) => `/v1/images/${encodeURIComponent(imageId)}`;

/**
 * Searches for what a state names.
 *
 * @param {import('/address.js').State} state whose source is not 'id' and not ''
 * @param {Blob|undefined} file the uploaded picture, where that is the source
 * @returns {Promise<{version: string, hits: object[], picture?: {width: number, height: number}}>}
 */
export async function search(state, file, options) {
  const answer = await read(...request(state, file, options));
  return { version: answer.version, ...(answer.queries?.[0] ?? { hits: answer.hits }) };
}

function request({ source, value, crop, where, group, k }, file, options) {
  const query = new URLSearchParams({ k });
  for (const filter of where) query.append('where', filter.join('='));
  if (source === 'similar') return [`/v1/items/${encodeURIComponent(value)}/similar?${query}`, options];
  if (source === 'upload') {
    if (group) query.set('group_by', 'item');
    if (crop) query.set('crop', cropText(crop));
    const type = file.type.startsWith('image/') ? file.type : 'application/octet-stream';
    return [`/v1/search?${query}`, { ...options, method: 'POST', headers: { 'Content-Type': type }, body: file }];
  }
  const body = { [source]: value, k, where: Object.fromEntries(where) };
  if (group) body.group_by = 'item';
  if (crop) body.crop = crop;
  const headers = { 'Content-Type': 'application/json' };
  return ['/v1/search', { ...options, method: 'POST', headers, body: JSON.stringify(body) }];
}

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, { title: 'No answer.', detail: 'The server cannot be reached. Is it running?' });
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

let asking; // calls that are refused together ask once

function replaceKey(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return undefined; // another call has asked meanwhile
  asking ??= askForKey(refused).finally(() => (asking = undefined));
  return asking;
}

function askForKey(refused) {
  const dialog = byId('key');
  const [form, input, cancel] = ['form', 'input', 'button'].map((name) => dialog.querySelector(name));
  if (refused) byId('key-hint').textContent = 'That key was not accepted. Is it complete?';
  input.value = '';
  dialog.returnValue = '';
  dialog.showModal();
  cancel.onclick = () => dialog.close();
  form.onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, input.value.trim());
    dialog.close('given');
  };
  return new Promise((resolve, reject) => {
    dialog.onclose = () => {
      if (dialog.returnValue === 'given') resolve();
      else reject(new Problem(401, { title: 'No key.', detail: 'This server answers only with a key. Reload to enter it.' }));
    };
  });
}
