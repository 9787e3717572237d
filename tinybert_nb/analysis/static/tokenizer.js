// BERT's tokenizer: from a text to token ids, as the `tokenizers` library computes them.
//
//   "Déjà vu, 好!"  --normalize-->  "deja vu,  好 !"  --splitWords-->  deja  vu  ,  好  !
//                   --pieces of each word-->  de ##ja  vu  ,  好  !  --ids-->  [CLS] ... [SEP]
//
// `settings` come from the model's tokenizer.json:
//   vocabulary  the tokens in the order of their ids (null: no token has this id)
//   prefix, unknown, longestWord  "##", "[UNK]", and how many letters a word may have
//   cleanText, spaceChinese, stripAccents, lowerCase  what is normalized
//   added       tokens that are found in a text before all else, such as [MASK]
//   first, last the ids around a text: [CLS], [SEP]; secondSegment is the type of a second text
//   maxLength   tokens of a text or pair, special ones included
//   byWord      whether what stands between white space is to be kept together, for tags
// `characters` are three classes as the library has them, which knows an older Unicode than a
// browser: what is removed, accents (marks that take no room), punctuation.

const CHINESE = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
const SPACE = /\p{White_Space}+/u;

// A pattern that finds any of these texts, the longest one first; null if there are none.
function anyOf(texts) {
  const escaped = texts.filter(text => text).sort((a, b) => b.length - a.length)
    .map(text => text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&"));
  return escaped.length ? new RegExp(`(${escaped.join("|")})`) : null;
}

class Tokenizer {
  constructor(settings, characters) {
    Object.assign(this, settings);
    this.ids = new Map(this.vocabulary.map((token, id) => [token, id]));
    this.ids.delete(null);
    const pattern = (ranges, flags) => new RegExp(`[${ranges}]`, flags);
    this.removed = pattern(characters.removed, "gu");
    this.accents = pattern(characters.accents, "gu");
    this.punctuation = pattern(characters.punctuation, "u");
    this.addedIds = new Map();
    const added = (normalized, rewrite) => {
      const found = this.added.filter(token => token.normalized === normalized);
      for (const { content, id } of found) this.addedIds.set(rewrite(content), id);
      return anyOf(found.map(({ content }) => rewrite(content)));
    };
    this.addedAsTyped = added(false, text => text);
    this.addedNormalized = added(true, text => this.normalize(text));
  }

  // BertNormalizer. Letters are treated one by one, so that a final Greek sigma stays a sigma.
  normalize(text) {
    if (this.cleanText) text = text.replace(this.removed, "").replace(/\p{White_Space}/gu, " ");
    if (this.spaceChinese) text = text.replace(CHINESE, " $& ");
    if (this.stripAccents) text = text.normalize("NFD").replace(this.accents, "");
    if (this.lowerCase) text = [...text].map(letter => letter.toLowerCase()).join("");
    return text;
  }

  // BertPreTokenizer: split at white space, and before and after each punctuation mark.
  splitWords(text) {
    const words = [];
    for (const part of text.split(SPACE)) {
      let word = "";
      for (const letter of part) {
        if (!this.punctuation.test(letter)) { word += letter; continue; }
        if (word) words.push(word);
        words.push(letter);
        word = "";
      }
      if (word) words.push(word);
    }
    return words;
  }

  // WordPiece: from left to right, always the longest token of the vocabulary that fits.
  pieces(word) {
    const letters = [...word], found = [];
    if (letters.length > this.longestWord) return [this.ids.get(this.unknown)];
    for (let start = 0; start < letters.length;) {
      let end = letters.length, id;
      for (; end > start; end--) {
        id = this.ids.get((start ? this.prefix : "") + letters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (end === start) return [this.ids.get(this.unknown)]; // nothing fits: the whole word
      found.push(id);
      start = end;
    }
    return found;
  }

  // The ids of a text, without [CLS] and [SEP]. Splitting by a pattern in brackets also gives what
  // the pattern has found: every second part is an added token.
  idsOf(text) {
    text = text.toWellFormed?.() ?? text; // half of an emoji is no character
    const split = (part, pattern) => (pattern ? part.split(pattern) : [part]);
    return split(text, this.addedAsTyped).flatMap((part, i) => i % 2 ? this.addedIds.get(part) :
      split(this.normalize(part), this.addedNormalized).flatMap((some, j) =>
        j % 2 ? this.addedIds.get(some) : this.splitWords(some).flatMap(word => this.pieces(word))));
  }

  // What the model takes: [CLS] text [SEP], or [CLS] text [SEP] second [SEP]; `words` says of which
  // word each token is (-1: of none), `dropped` how many tokens did not fit.
  encode(text, second = null) {
    const words = text.split(SPACE).filter(word => word);
    const byWord = this.byWord ? words.map(word => this.idsOf(word)) : [this.idsOf(text)];
    const firstIds = byWord.flat(), wordOf = byWord.flatMap((ids, place) => ids.map(() => place));
    const secondIds = second === null ? [] : this.idsOf(second);
    const room = this.maxLength - (second === null ? 2 : 3);
    const [keep, keepSecond] = lengthsThatFit(firstIds.length, secondIds.length, room);
    const ids = [this.first, ...firstIds.slice(0, keep), this.last], types = ids.map(() => 0);
    if (second !== null) {
      const more = [...secondIds.slice(0, keepSecond), this.last];
      ids.push(...more);
      types.push(...more.map(() => this.secondSegment));
    }
    return {
      ids, types, words, wordOf: [-1, ...wordOf.slice(0, keep), -1],
      tokens: ids.map(id => this.vocabulary[id] ?? this.added.find(token => token.id === id)?.content),
      dropped: firstIds.length + secondIds.length - keep - keepSecond,
    };
  }
}

// How many tokens of each text are kept: the longer one is cut first, then both to the same length.
function lengthsThatFit(first, second, room) {
  if (first + second <= room) return [first, second];
  const shorter = Math.min(first, second);
  const [least, most] = 2 * shorter > room ? [room >> 1, room - (room >> 1)] : [shorter, room - shorter];
  return first > second ? [most, least] : [least, most];
}
