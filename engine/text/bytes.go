package text

import (
	"strings"
	"unicode/utf8"
)

// The byte-level alphabet writes every byte as one printable character: printable
// Latin-1 bytes as themselves, the other 68 as U+0100 and up, in order. (GPT-2,
// Radford et al. 2019.)
var byteChars, charBytes = byteAlphabet()

func byteAlphabet() (chars [256]rune, bytes map[rune]byte) {
	bytes = make(map[rune]byte, 256)
	next := rune(0x100)
	for b := range rune(256) {
		switch {
		case '!' <= b && b <= '~', 0xa1 <= b && b <= 0xac, 0xae <= b:
			chars[b] = b
		default:
			chars[b] = next
			next++
		}
		bytes[chars[b]] = byte(b)
	}
	return chars, bytes
}

// appendMapped appends s with every byte written in the byte-level alphabet.
func appendMapped(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = utf8.AppendRune(dst, byteChars[s[i]])
	}
	return dst
}

// appendUnmapped appends the bytes that token stands for; a token with a character
// outside the alphabet stands for itself.
func appendUnmapped(dst []byte, token string) []byte {
	start := len(dst)
	for _, r := range token {
		b, ok := charBytes[r]
		if !ok {
			return append(dst[:start], token...)
		}
		dst = append(dst, b)
	}
	return dst
}

// validUTF8 returns s with every ill-formed sequence replaced by one U+FFFD: the
// longest piece that could begin a character counts as one sequence (Unicode 16.0,
// section 3.9, "substitution of maximal subparts").
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			n = subpart(s)
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// subpart returns the length of the ill-formed sequence at the start of s.
func subpart(s string) int {
	lo, hi, need := byte(0x80), byte(0xbf), 0
	switch c := s[0]; {
	case 0xc2 <= c && c <= 0xdf:
		need = 1
	case 0xe0 <= c && c <= 0xef:
		need = 2
		if c == 0xe0 {
			lo = 0xa0
		} else if c == 0xed {
			hi = 0x9f
		}
	case 0xf0 <= c && c <= 0xf4:
		need = 3
		if c == 0xf0 {
			lo = 0x90
		} else if c == 0xf4 {
			hi = 0x8f
		}
	}
	n := 1
	for ; n <= need && n < len(s) && lo <= s[n] && s[n] <= hi; n++ {
		lo, hi = 0x80, 0xbf
	}
	return n
}
