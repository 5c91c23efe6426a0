// The browser's own store (IndexedDB): drafts that the server does not have yet, and what the page needs without it.
// Without IndexedDB everything stays in memory alone, and the page works as long as it is open.

const NAME = "proxybox-classroom";
/** @typedef {{key: string, seat: string, [field: string]: any}} Kept what a store has under a key */

const STORES = ["drafts", "answers"];

/** @type {Promise<IDBDatabase | null> | null} */
let opened = null;

function open() {
  opened ??= new Promise((resolve) => {
    /** @type {IDBOpenDBRequest} */
    let request;
    try {
      request = indexedDB.open(NAME, 1);
    } catch {
      resolve(null);
      return;
    }
    request.onupgradeneeded = () =>
      STORES.forEach((store) => request.result.createObjectStore(store, { keyPath: "key" }));
    request.onsuccess = () => {
      // Another page's newer form of the store, or its removal, waits for this.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => resolve(null);
    request.onblocked = () => resolve(null);
  });
  return opened;
}

// Does `work(store)` in a transaction, and resolves to the result of the request that it returns once all is kept.
/**
 * @template T
 * @param {string} store
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T> | undefined} work
 * @returns {Promise<T | undefined>}
 */
async function within(store, mode, work) {
  const database = await open();
  if (database === null) return undefined;
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(store, mode);
    const request = work(transaction.objectStore(store));
    transaction.commit?.(); // now, and not after another turn of a page that may be about to end
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error);
  }).catch(() => undefined);
}

/** @param {string} store @returns {Promise<Kept[] | undefined>} */
export function all(store) {
  return within(store, "readonly", (records) => records.getAll());
}

/** @param {string} store @param {string} key @returns {Promise<Kept | undefined>} */
export function read(store, key) {
  return within(store, "readonly", (records) => records.get(key));
}

/** @param {string} store @param {Kept} record */
export function keep(store, record) {
  return within(store, "readwrite", (records) => records.put(record));
}

/** @param {string} store @param {string[]} keys */
export function drop(store, ...keys) {
  return within(store, "readwrite", (records) => keys.map((key) => records.delete(key)).at(-1));
}

// Forgets what belongs to a seat.
/** @param {string} seat */
export async function forget(seat) {
  for (const store of STORES) {
    const records = (await all(store)) ?? [];
    const keys = records.filter((record) => record.seat === seat).map((record) => record.key);
    if (keys.length > 0) await drop(store, ...keys);
  }
}

// An id that nobody else has. crypto.randomUUID is missing where a page came by plain http.
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
