// pugd in a browser: calls are queued at once and sent in batches until they are acked. Served as /pugd.js without these
// comments (edge/snippet.py), so each stands on lines of its own, and nothing else begins a line with two slashes.
//
//   call -> queue (localStorage, an item an event; memory where that is denied) -> batch -> POST /v1/batch -> 200: done
//                                                                  ^                  | network, 408, 429, 5xx
//                                                                  +-- wait, again <--+ (Retry-After, else doubled, jitter)
//                                                                          dropped <--+ any other 4xx
//
// An event has its messageId and time from the call on, so one that is sent twice counts once: by a retry, by a second tab
// that took the lease in the same moment, or by a beacon, which nobody acks. Hence a beacon takes nothing out of the queue:
// the next page sends the same again. Nothing here throws into the page that loads it.
(() => {
  const w = window, d = document, nav = navigator, now = () => Date.now();
  if (w.pugd && w.pugd.loaded) return;
  const warn = (...words) => console.warn('pugd:', ...words);
  const tag = d.currentScript || d.querySelector('script[data-key][src*="pugd.js"]');
  const told = tag ? tag.dataset : {};
  const key = told.key, host = told.host || (tag && tag.src.replace(/\/pugd\.js.*$/, ''));
  if (!key || !host) return warn('its script tag needs a data-key');
  const url = host.replace(/\/$/, '') + '/v1/batch', automatic = told.auto !== 'false';

  const COUNT_MAX = 500, CHARS_MAX = 500000, EVENT_CHARS_MAX = 100000;
  // A character is three bytes at most, and a browser lets 64 KiB outlive a page.
  const BATCH_CHARS_MAX = 20000, BATCH_MAX = 50;
  const FLUSH_MS = 400, TIMEOUT_MS = 15000, LEASE_MS = 20000, AGREE_MS = 40, TITLE_MS = 50;
  const RETRY_MS = 1000, RETRY_MS_MAX = 60000, AFTER_MS_MAX = 3600000;
  const IDLE_MS = 1800000, SESSION_MS = 86400000;
  const GRANTED = 'granted', DENIED = 'denied', COOKIELESS = 'cookieless', STATES = [GRANTED, DENIED, COOKIELESS];

  const mint = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => (b + 256).toString(16).slice(1)).join('');
  const tab = mint().slice(0, 8);
  // undefined where it failed
  const tried = (call) => {
    try {
      return call();
    } catch (_) {}
  };

  // -- what is kept, under one prefix: in the browser where it is granted and allowed, else in this page

  const prefix = 'pugd.' + key + '.';
  let state = DENIED, memory = {};
  const kept = tried(() => w.localStorage);
  const lasting = () => kept && state === GRANTED;
  const get = (name) => memory[name] || (lasting() && tried(() => kept.getItem(prefix + name))) || '';
  const drop = (name) => {
    delete memory[name];
    tried(() => kept.removeItem(prefix + name));
  };
  const put = (name, value) => {
    memory[name] = value;
    if (lasting()) {
      tried(() => {
        kept.setItem(prefix + name, value);
        delete memory[name];
      });
    }
  };
  const stored = () => Object.keys(kept || {}).filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));

  // -- the queue: names sort by the time of their call

  let count = 0;
  const queued = () => [...new Set([...Object.keys(memory), ...(lasting() ? stored() : [])])]
    .filter((name) => name.startsWith('e.')).sort();
  const enqueue = (text) => {
    if (text.length > EVENT_CHARS_MAX) return warn('an event of ' + text.length + ' characters is too long');
    const names = queued();
    let size = names.reduce((sum, name) => sum + get(name).length, text.length);
    while (names.length >= COUNT_MAX || size > CHARS_MAX) {
      size -= get(names[0]).length;
      drop(names.shift());
    }
    put('e.' + now().toString(36).padStart(9, '0') + (1e6 + count++ % 1e6) + tab, text);
    soon(FLUSH_MS);
  };
  // The oldest that fit into one request. What is no event of ours any more is dropped: it would spoil the rest.
  const take = (names) => {
    const batch = [], texts = [];
    let size = 0;
    for (const name of names) {
      const text = get(name);
      if (!tried(() => JSON.parse(text).messageId)) {
        drop(name);
        continue;
      }
      if (batch.length && (size + text.length > BATCH_CHARS_MAX || batch.length >= BATCH_MAX)) break;
      batch.push(name);
      texts.push(text);
      size += text.length;
    }
    const sentAt = new Date().toISOString();
    return { batch, size, body: '{"batch":[' + texts + '],"writeKey":' + JSON.stringify(key) + ',"sentAt":"' + sentAt + '"}' };
  };

  // -- sending: one batch after another, and one tab at a time as long as the others see its lease

  let busy = null, timer = 0, due = 0, notBefore = 0, wait = 0;
  let severed = false, gone = false, control = null, flying = [];
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const soon = (ms) => {
    if (timer && due <= now() + ms) return;
    clearTimeout(timer);
    due = now() + ms;
    timer = setTimeout(() => {
      timer = 0;
      flush();
    }, ms);
  };
  const lease = () => {
    const [by, until] = get('lease').split(' '), left = until - now();
    return left > 0 && left <= AFTER_MS_MAX ? { by, left } : { by: '', left: 0 };
  };
  const hold = (ms) => put('lease', tab + ' ' + (now() + ms));
  const release = () => lease().by === tab && now() >= notBefore && drop('lease');
  const taken = async () => {
    const { by, left } = lease();
    if (!by || by === tab) {
      hold(LEASE_MS);
      if (!by) await pause(AGREE_MS);
      if (lease().by === tab) return true;
    }
    soon(Math.min(left, 2000) + Math.random() * 500);
    return false;
  };
  const post = async ({ body, batch, size }) => {
    control = new AbortController();
    const late = setTimeout(() => control.abort(), TIMEOUT_MS);
    // Where the browser has no room for one that outlives the page, that looks like a broken network.
    const keepalive = size <= BATCH_CHARS_MAX && !severed;
    flying = keepalive ? batch : [];
    try {
      const answer = await fetch(url, { method: 'POST', body, keepalive, credentials: 'omit', signal: control.signal });
      return { status: answer.status, after: +answer.headers.get('Retry-After') || 0, said: await answer.text() };
    } catch (_) {
      return { status: 0, after: 0, said: '' };
    } finally {
      clearTimeout(late);
      flying = [];
    }
  };
  const drain = async () => {
    while (state !== DENIED && queued().length) {
      if (now() < notBefore) {
        soon(notBefore - now());
        return false;
      }
      if (!(await taken())) return false;
      const taking = take(queued());
      if (!taking.size) continue;
      const { status, after, said } = await post(taking);
      if (state === DENIED) break;
      if (!status || status === 408 || status === 429 || status >= 500) {
        wait = Math.min(wait * 2 || RETRY_MS, RETRY_MS_MAX);
        const ms = after > 0 ? Math.min(after * 1000, AFTER_MS_MAX) : wait * (0.5 + Math.random() / 2);
        notBefore = now() + ms;
        severed = !status;
        // Told to wait, all tabs do, those of the next page too: nobody else gets the lease until then.
        if (after > 0) hold(ms);
        else drop('lease');
        soon(ms);
        return false;
      }
      wait = notBefore = 0;
      severed = false;
      taking.batch.forEach(drop);
      if (status >= 300 || said.includes('"refused"')) warn('the collector answered ' + status, said);
    }
    release();
    return true;
  };
  // returns a promise: true once nothing is left, false where it has to wait
  const flush = () => busy || (busy = drain().catch(() => false).then((empty) => {
    busy = null;
    return empty;
  }));
  const part = () => {
    settle();
    gone = true;
    if (state !== DENIED && (severed || now() >= notBefore)) {
      const mine = queued().filter((name) => name.endsWith(tab) && !flying.includes(name));
      const { batch, body } = take(mine);
      if (batch.length) nav.sendBeacon(url, body);
    }
    release();
  };

  // -- who, and where

  const session = () => {
    let [id, began, last] = get('session').split(' ');
    if (!(now() - last < IDLE_MS && now() - began < SESSION_MS)) {
      id = mint();
      began = now();
    }
    put('session', [id, began, now()].join(' '));
    return id;
  };
  const visitor = () => {
    const id = get('visitor') || mint();
    put('visitor', id);
    return id;
  };
  const leave = () => ['visitor', 'user', 'session'].forEach(drop);
  // Without the fragment, unless it is a route.
  const address = () => location.href.replace(/#(?![/!]).*$/, '');
  let referrer = d.referrer, seen = '', pending = 0, pushed = false;
  const about = () => {
    const campaign = {};
    new URLSearchParams(location.search).forEach((value, name) => {
      if (/^utm_./.test(name)) campaign[name === 'utm_campaign' ? 'name' : name.slice(4)] = value;
    });
    return {
      library: { name: 'pugd-browser', version: '1' },
      page: { url: address().slice(0, 2048), path: location.pathname, title: d.title, referrer },
      userAgent: nav.userAgent,
      locale: nav.language,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      screen: { width: screen.width, height: screen.height, density: w.devicePixelRatio },
      campaign: Object.keys(campaign).length ? campaign : undefined,
    };
  };
  const say = (type, said) => {
    if (state === DENIED) return;
    const message = { type, messageId: mint(), timestamp: new Date().toISOString(), ...said, context: about() };
    if (state === COOKIELESS) {
      message.context.cookieless = true;
    } else {
      message.anonymousId = visitor();
      message.userId = said.userId || get('user') || undefined;
      message.context.sessionId = session();
    }
    enqueue(JSON.stringify(message));
  };

  // -- page views by themselves

  const view = () => {
    if (state === DENIED) return;
    if (seen) referrer = seen;
    seen = address();
    say('page', {});
  };
  const settle = () => {
    if (!pending) return;
    clearTimeout(pending);
    pending = 0;
    // A query that is replaced is a filter or a search being typed, no other page.
    const path = (text) => text.replace(/\?[^#]*/, '');
    if (pushed ? address() !== seen : path(address()) !== path(seen)) view();
    else seen = address();
    pushed = false;
  };
  const moved = (push) => {
    if (!automatic) return;
    clearTimeout(pending);
    pushed = pushed || push;
    // Most applications set the title of a page after its address.
    pending = setTimeout(guard(settle), TITLE_MS);
  };

  // -- consent

  const refused = told.ignoreSignals !== 'true' &&
    (nav.globalPrivacyControl || nav.doNotTrack === '1');
  const adopt = (next) => {
    const before = state;
    if (next === COOKIELESS) queued().forEach((name) => (memory[name] = get(name)));
    state = next;
    if (next === DENIED) {
      memory = {};
      if (control) control.abort();
    }
    if (next !== GRANTED) {
      leave();
      stored().forEach((name) => tried(() => kept.removeItem(prefix + name)));
    }
    if (before === DENIED && started && automatic) view();
  };

  // -- what a page may call

  const guard = (call) => (...given) => {
    try {
      return call(...given);
    } catch (error) {
      warn(error);
    }
  };
  const id = (value) => String(value ?? '');
  const calls = {
    track: (event, properties = {}) => (event ? say('track', { event, properties }) : warn('track needs a name')),
    page: (name, properties = {}) => say('page', typeof name === 'object' ? { properties: name || {} } : { name, properties }),
    identify: (userId, traits = {}) => {
      if (state !== GRANTED) return;
      if (userId && typeof userId === 'object') [userId, traits] = ['', userId];
      const user = id(userId), before = get('user');
      // Another user on this device is another visitor: the history of the first stays theirs.
      if (user && before && before !== user) leave();
      if (user) put('user', user);
      say('identify', { traits });
    },
    alias: (newId) => {
      if (state !== GRANTED || !id(newId)) return;
      say('alias', { userId: id(newId), previousId: get('user') || visitor() });
    },
    group: (groupId, traits = {}) => {
      if (state === GRANTED && id(groupId)) say('group', { groupId: id(groupId), traits });
    },
    reset: leave,
    consent: (next) => {
      if (!STATES.includes(next)) return warn('consent is granted, denied or cookieless');
      if (refused) return;
      // Told to other tabs by an item that does not stay, but for a yes.
      tried(() => kept.setItem(prefix + 'consent', next));
      adopt(next);
    },
    flush,
  };
  const pugd = (name, ...given) => (calls[name] ? pugd[name](...given) : warn('there is no call ' + name));
  for (const name in calls) {
    pugd[name] = guard((...given) => {
      settle();
      return calls[name](...given);
    });
  }
  pugd.loaded = true;

  let started = false;
  const start = () => {
    const waiting = [...((w.pugd && w.pugd.q) || [])].map((given) => [...given]);
    w.pugd = pugd;
    let first = told.consent || GRANTED;
    if (!STATES.includes(first)) first = DENIED;
    if (tried(() => kept.getItem(prefix + 'consent')) === GRANTED) first = GRANTED;
    adopt(refused ? DENIED : first);
    waiting.filter((given) => given[0] === 'consent').forEach((given) => pugd(...given));
    started = true;
    if (automatic) view();
    waiting.filter((given) => given[0] !== 'consent').forEach((given) => pugd(...given));
    for (const name of automatic ? ['pushState', 'replaceState'] : []) {
      const before = history[name];
      history[name] = function (...given) {
        const made = before.apply(this, given);
        moved(name === 'pushState');
        return made;
      };
    }
    const on = (where, what, call) => where.addEventListener(what, guard(call));
    on(w, 'popstate', () => moved(true));
    on(w, 'pagehide', part);
    on(d, 'visibilitychange', () => {
      if (d.visibilityState === 'hidden' && !gone) flush();
    });
    on(w, 'pageshow', (event) => {
      gone = false;
      if (!event.persisted) return;
      if (automatic) view();
      soon(0);
    });
    on(w, 'online', () => {
      if (severed) wait = notBefore = 0;
      soon(Math.random() * 1000);
    });
    on(w, 'storage', ({ key: name, newValue: next, storageArea }) => {
      if (name === prefix + 'consent' && storageArea === kept && STATES.includes(next) && !refused) adopt(next);
    });
    soon(FLUSH_MS);
  };
  if (d.prerendering) d.addEventListener('prerenderingchange', guard(start), { once: true });
  else guard(start)();
})();
