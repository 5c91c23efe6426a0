// Keeps the files of the student's page, so that it can be loaded again without a connection. Nothing else goes through here:
// neither the teacher's page nor any request for data.

const CACHE = "classroom";
const PATIENCE = 4_000; // ms for the server, before the kept file is taken

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("message", (event) => {
  const keep = event.data?.keep;
  if (Array.isArray(keep)) event.waitUntil(Promise.all([...new Set(keep)].filter(isOurs).map(fresh)));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && isOurs(event.request.url)) event.respondWith(answer(event.request));
});

function isOurs(address) {
  const url = new URL(address, self.location.origin);
  return url.origin === self.location.origin && (url.pathname === "/" || url.pathname.startsWith("/static/"));
}

// The server's file, kept for later.
async function fresh(request) {
  const url = new URL(request.url ?? request, self.location.origin);
  // A request of the browser's own goes as it is: one to open a page cannot be made anew.
  const response = await (typeof request === "string" ? fetch(request, { cache: "no-cache" }) : fetch(request));
  if (response.ok && !response.redirected && url.search === "") {
    const cache = await caches.open(CACHE);
    await cache.put(url.href, response.clone());
  }
  return response;
}

// The server's file; where it does not come in time, the kept one. Files of two releases are so mixed only while it is away.
async function answer(request) {
  const url = new URL(request.url);
  const loading = fresh(request);
  const kept = await caches.match(url.origin + url.pathname, { cacheName: CACHE });
  if (kept === undefined) return loading;
  const late = new Promise((resolve) => setTimeout(() => resolve(kept), PATIENCE));
  return Promise.race([loading.catch(() => kept), late]);
}
