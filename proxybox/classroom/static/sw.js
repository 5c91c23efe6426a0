// Stores the files of the student's page, so that it can be loaded without a connection. It handles nothing else:
// neither the teacher's page nor requests for data.

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const CACHE = "classroom";
const PATIENCE = 4_000; // ms to wait for the server before the stored file is used

worker.addEventListener("install", () => worker.skipWaiting());
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));

worker.addEventListener("message", (event) => {
  const keep = event.data?.keep;
  if (Array.isArray(keep)) event.waitUntil(Promise.all([...new Set(keep)].filter(isOurs).map((address) => fresh(address))));
});

worker.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && isOurs(event.request.url)) event.respondWith(answer(event.request));
});

/** @param {string} address */
function isOurs(address) {
  const { origin } = worker.location;
  const url = new URL(address, origin);
  return url.origin === origin && (url.pathname === "/" || url.pathname.startsWith("/static/"));
}

// Returns the server's file, and stores it.
/** @param {string | Request} request */
async function fresh(request) {
  const url = new URL(typeof request === "string" ? request : request.url, worker.location.origin);
  // A navigation request is passed on unchanged: it cannot be constructed again.
  const response = await (typeof request === "string" ? fetch(request, { cache: "no-cache" }) : fetch(request));
  if (response.ok && !response.redirected && url.search === "") {
    const cache = await caches.open(CACHE);
    await cache.put(url.href, response.clone());
  }
  return response;
}

// Returns the server's file; the stored one if it does not come in time. So files of two releases are mixed only while
// the server is unreachable.
/** @param {Request} request @returns {Promise<Response>} */
async function answer(request) {
  const url = new URL(request.url);
  const loading = fresh(request);
  const kept = await caches.match(url.origin + url.pathname, { cacheName: CACHE });
  if (kept === undefined) return loading;
  /** @type {Promise<Response>} */
  const late = new Promise((resolve) => setTimeout(() => resolve(kept), PATIENCE));
  return Promise.race([loading.catch(() => kept), late]);
}
