// The browser's database (IndexedDB): drafts that the server does not have yet, and answers for loading the page
// without a connection. Without IndexedDB everything is only in memory, and is lost when the page is closed.

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
      // Another page waits for this, to upgrade or remove the database.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => resolve(null);
    request.onblocked = () => resolve(null);
  });
  return opened;
}

// Runs `work(store)` in a transaction. Resolves to the result of its request when everything is stored.
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
    transaction.commit?.(); // now, and not after another turn of the event loop: the page may be about to end
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

// Removes the data of a seat.
/** @param {string} seat */
export async function forget(seat) {
  for (const store of STORES) {
    const records = (await all(store)) ?? [];
    const keys = records.filter((record) => record.seat === seat).map((record) => record.key);
    if (keys.length > 0) await drop(store, ...keys);
  }
}

// A unique id. crypto.randomUUID is missing on pages that were loaded by plain http.
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
