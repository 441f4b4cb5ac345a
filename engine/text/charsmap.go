package text

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// charsmap is the normaliser that sentencepiece compiles: a table from strings to
// strings, such as NFKC with rules of its own. The table is a double array (Aoe
// 1989, in the form of Yata's darts-clone) over the bytes of the keys, whose values
// are places in a blob of zero-terminated texts.
type charsmap struct {
	units []uint32
	texts string
}

// parseCharsmap reads the table: the array's length in bytes as a little-endian
// uint32, the array, the texts.
func parseCharsmap(raw []byte) (*charsmap, error) {
	if len(raw) == 0 {
		return &charsmap{}, nil // nothing is rewritten
	}
	if len(raw) < 4 {
		return nil, malformed("normalizer: Precompiled: the table has %d bytes", len(raw))
	}
	n := binary.LittleEndian.Uint32(raw)
	raw = raw[4:]
	if n%4 != 0 || uint64(n) > uint64(len(raw)) {
		return nil, malformed("normalizer: Precompiled: the array has %d bytes, %d are there", n, len(raw))
	}
	m := &charsmap{units: make([]uint32, n/4), texts: string(raw[n:])}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	if !utf8.ValidString(m.texts) {
		return nil, malformed("normalizer: Precompiled: the texts are not UTF-8")
	}
	return m, nil
}

// The parts of a unit: the byte that leads to it, where its children are, whether a
// key ends at it. The value of a key stands in a unit of its own, for the byte 0.
func unitLabel(u uint32) uint32  { return u & (1<<31 | 0xff) }
func unitOffset(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }
func unitLeaf(u uint32) bool     { return u>>8&1 == 1 }
func unitValue(u uint32) uint32  { return u & (1<<31 - 1) }

// find returns the text for the shortest key that s starts with: like the
// reference, which asks for all of them and takes the first.
func (m *charsmap) find(s string) (string, bool) {
	if len(m.units) == 0 {
		return "", false
	}
	node := unitOffset(m.units[0])
	for i := range len(s) {
		if s[i] == 0 {
			return "", false
		}
		node ^= uint32(s[i])
		if node >= uint32(len(m.units)) || unitLabel(m.units[node]) != uint32(s[i]) {
			return "", false
		}
		u := m.units[node]
		node ^= unitOffset(u)
		if unitLeaf(u) {
			if node >= uint32(len(m.units)) {
				return "", false
			}
			at := unitValue(m.units[node])
			if uint64(at) > uint64(len(m.texts)) || at > 0 && at < uint32(len(m.texts)) && !utf8.RuneStart(m.texts[at]) {
				return "", false
			}
			text, _, _ := strings.Cut(m.texts[at:], "\x00")
			return text, true
		}
	}
	return "", false
}

// longKey is the length in bytes from which a grapheme is not looked up whole.
const longKey = 6

// normalize rewrites s grapheme by grapheme: a short one whole, if the table has
// it, otherwise its characters one by one.
func (m *charsmap) normalize(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for g := graphemes.FromString(s); g.Next(); {
		grapheme := g.Value()
		if len(grapheme) < longKey {
			if text, ok := m.find(grapheme); ok {
				b.WriteString(text)
				continue
			}
		}
		for i, r := range grapheme {
			char := grapheme[i : i+utf8.RuneLen(r)]
			if text, ok := m.find(char); ok {
				char = text
			}
			b.WriteString(char)
		}
	}
	return b.String()
}

// nmt is sentencepiece's cleaning for translation: control characters go, odd white
// space becomes a space.
func nmt(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 0x01 <= r && r <= 0x08, r == 0x0b, 0x0e <= r && r <= 0x1f, r == 0x7f, r == 0x8f, r == 0x9f:
			return -1
		case r == 0x09, r == 0x0a, r == 0x0c, r == 0x0d, r == 0x1680, 0x200b <= r && r <= 0x200f,
			r == 0x2028, r == 0x2029, r == 0x2581, r == 0xfeff, r == 0xfffd:
			return ' '
		}
		return r
	}, s)
}
