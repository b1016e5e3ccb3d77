// Keys and ids in their text form: npub1…, note1…, nevent1… (NIP-19).

const ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATORS = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];

/** Longer texts are refused without decoding them. */
const LENGTH_MAX = 1_000;

const HEX = /^[0-9a-f]{64}$/;

function checksum(words) {
  return words.reduce((sum, word) => {
    const top = sum >>> 25;
    const next = ((sum & 0x1ffffff) << 5) ^ word;
    return GENERATORS.reduce((value, generator, at) => ((top >> at) & 1 ? value ^ generator : value), next);
  }, 1);
}

/** The words of a prefix, for the checksum. */
function expanded(prefix) {
  const codes = [...prefix].map((letter) => letter.charCodeAt(0));
  return [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31)];
}

/** The bytes that a text contains, or null if it is not bech32 with this prefix. */
function bytesOf(prefix, text) {
  const lower = text.toLowerCase();
  if (text.length > LENGTH_MAX || (text !== lower && text !== text.toUpperCase()) || !lower.startsWith(`${prefix}1`)) return null;
  const words = [...lower.slice(prefix.length + 1)].map((letter) => ALPHABET.indexOf(letter));
  if (words.length < 6 || words.includes(-1) || checksum([...expanded(prefix), ...words]) !== 1) return null;
  const bits = words.slice(0, -6).map((word) => word.toString(2).padStart(5, "0")).join("");
  return (bits.match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2));
}

const hexOf = (bytes) => bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The first 32 bytes of type 0 in the fields of a nevent1… or nprofile1…. */
function special(bytes) {
  for (let at = 0; at + 2 <= bytes.length; at += 2 + bytes[at + 1]) {
    if (bytes[at] === 0 && bytes[at + 1] === 32) return bytes.slice(at + 2, at + 34);
  }
  return [];
}

/** A text with one of two prefixes as 64 hex digits; null if it is neither of them nor hex. */
function parsed(text, plain, withFields) {
  const trimmed = text.trim().replace(/^nostr:/i, "");
  if (HEX.test(trimmed.toLowerCase())) return trimmed.toLowerCase();
  const bytes = bytesOf(plain, trimmed) ?? special(bytesOf(withFields, trimmed) ?? []);
  return bytes.length === 32 ? hexOf(bytes) : null;
}

/** The id that a text names: hex, note1… or nevent1…. */
export const eventId = (text) => parsed(text, "note", "nevent");

/** The public key that a text names: hex, npub1… or nprofile1…. */
export const publicKey = (text) => parsed(text, "npub", "nprofile");

/** 64 hex digits with a prefix, such as "note". */
export function encoded(prefix, hex) {
  if (!HEX.test(hex)) return hex;
  const bits = [...hex].map((digit) => parseInt(digit, 16).toString(2).padStart(4, "0")).join("");
  const words = bits.padEnd(260, "0").match(/.{5}/g).map((word) => parseInt(word, 2));
  const sum = checksum([...expanded(prefix), ...words, 0, 0, 0, 0, 0, 0]) ^ 1;
  const check = [0, 1, 2, 3, 4, 5].map((at) => (sum >>> (5 * (5 - at))) & 31);
  return `${prefix}1${[...words, ...check].map((word) => ALPHABET[word]).join("")}`;
}
