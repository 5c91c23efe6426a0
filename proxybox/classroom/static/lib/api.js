// Requests to the server: JSON in both directions. A failed request is not repeated here; the caller decides that.

import { t } from "./words.js";

/** @typedef {{timeout?: number, keepalive?: boolean}} Options */

// Why a request failed. status: the HTTP status, or 0 if the server was not reached. retryAfter: seconds, or 0.
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{title?: string, detail?: string, errors?: unknown[]}} body
   * @param {number} retryAfter
   */
  constructor(status, { title = "", detail = "", errors = [] } = {}, retryAfter = 0) {
    super(t(detail || title) || t("The classroom's computer cannot be reached."));
    this.name = "Problem";
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }

  // Whether the same request may succeed later.
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 423 || this.status === 429 || this.status >= 500;
  }
}

/** @param {string} path @param {Options} [options] @returns {Promise<any>} what the server sends (answers.py) */
export function get(path, options) {
  return request("GET", path, undefined, options);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} body
 * @param {Options} [options]
 * @returns {Promise<any>} what the server sends
 */
export function send(method, path, body = {}, options) {
  return request(method, path, body, options);
}

// timeout: ms. keepalive: the request outlives the page (bodies up to 64 KiB).
/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} body
 * @param {Options} options
 * @returns {Promise<any>}
 */
async function request(method, path, body, { timeout = 15_000, keepalive = false } = {}) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeout);
  try {
    /** @type {RequestInit} */
    const init = { method, cache: "no-store", credentials: "same-origin", keepalive, signal: abort.signal };
    if (body !== undefined) {
      init.headers = { "Content-Type": "application/json" };
      init.body = JSON.stringify(body);
    }
    const response = await fetch(path, init).catch(() => {
      throw new Problem(0);
    });
    if (!response.ok) throw await problemOf(response);
    if (response.status === 204) return null;
    return await response.json().catch(() => {
      throw new Problem(0);
    });
  } finally {
    clearTimeout(timer);
  }
}

/** @param {Response} response */
async function problemOf(response) {
  const told = await response.json().catch(() => ({}));
  return new Problem(response.status, told ?? {}, Number(response.headers.get("Retry-After")) || 0);
}
