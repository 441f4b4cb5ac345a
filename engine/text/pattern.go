package text

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// The split patterns that have a scanner of their own; all others run on regexp2.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// parsePattern reads {"Regex": …} or {"String": …}.
func parsePattern(where string, raw json.RawMessage) (pattern, error) {
	var p struct{ Regex, String *string }
	if err := unmarshal(where+": pattern", raw, &p, 0); err != nil {
		return nil, err
	}
	switch {
	case p.Regex != nil:
		switch *p.Regex {
		case gpt2Pattern:
			return scanner(gpt2Word), nil
		case llama3Pattern:
			return scanner(llama3Word), nil
		case qwen2Pattern:
			return scanner(qwen2Word), nil
		}
		return compile(where, *p.Regex)
	case p.String != nil && *p.String != "":
		return literal(*p.String), nil
	}
	return nil, malformed("%s: the pattern is %.60q, want {\"Regex\": …} or {\"String\": …}", where, raw)
}

// regex is any other pattern. Its dialect is the reference's: ^ and $ match at
// every line.
type regex struct{ re *regexp2.Regexp }

func compile(where, expr string) (p pattern, err error) {
	re, err := regexp2.Compile(expr, regexp2.Multiline)
	if err != nil {
		return nil, malformed("%s: pattern %.200q: %v", where, expr, err)
	}
	return regex{re}, nil
}

func (p regex) spans(dst []span, s string) []span {
	runes := []rune(s)
	at, char := 0, 0 // the same place in bytes and in characters
	advance := func(to int) int {
		for ; char < to; char++ {
			at += utf8.RuneLen(runes[char])
		}
		return at
	}
	for m, err := p.re.FindRunesMatch(runes); m != nil && err == nil; m, err = p.re.FindNextMatch(m) {
		from := at
		lo := advance(m.Index)
		if from < lo {
			dst = append(dst, span{from, lo, false})
		}
		dst = append(dst, span{lo, advance(m.Index + m.Length), true})
	}
	if at < len(s) {
		dst = append(dst, span{at, len(s), false})
	}
	return dst
}

// literal is a fixed string as a pattern.
type literal string

func (p literal) spans(dst []span, s string) []span {
	for at := 0; at < len(s); {
		i := strings.Index(s[at:], string(p))
		if i < 0 {
			return append(dst, span{at, len(s), false})
		}
		if i > 0 {
			dst = append(dst, span{at, at + i, false})
		}
		dst = append(dst, span{at + i, at + i + len(p), true})
		at += i + len(p)
	}
	return dst
}

// runeIs matches every character of a kind by itself.
type runeIs func(rune) bool

func (p runeIs) spans(dst []span, s string) []span {
	start := 0
	for i, r := range s {
		if !p(r) {
			continue
		}
		if start < i {
			dst = append(dst, span{start, i, false})
		}
		start = i + utf8.RuneLen(r)
		dst = append(dst, span{i, start, true})
	}
	if start < len(s) {
		dst = append(dst, span{start, len(s), false})
	}
	return dst
}

// scanner is a hand-written pattern whose matches cover every string: it returns
// the length of the match at the start of a string that is not empty.
type scanner func(s string) int

func (f scanner) spans(dst []span, s string) []span {
	for at := 0; at < len(s); {
		n := f(s[at:])
		dst = append(dst, span{at, at + n, true})
		at += n
	}
	return dst
}

func (f scanner) split(s string, emit func(string)) {
	for len(s) > 0 {
		n := f(s)
		emit(s[:n])
		s = s[n:]
	}
}

// class is what the split patterns tell apart.
type class uint8

const (
	other  class = iota // [^\s\p{L}\p{N}]
	letter              // \p{L}
	number              // \p{N}
	space               // \s without the two below
	breaks              // [\r\n]
)

var asciiClass = func() (t [utf8.RuneSelf]class) {
	for r := range rune(utf8.RuneSelf) {
		t[r] = classOf(r)
	}
	return t
}()

func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case r == '\r' || r == '\n':
		return breaks
	case unicode.IsSpace(r):
		return space
	case unicode.IsNumber(r):
		return number
	}
	return other
}

// classAt returns the class of the first character of s and its length, 0 at the end.
func classAt(s string) (class, int) {
	if s == "" {
		return space, 0
	}
	if c := s[0]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(s)
	return classOf(r), n
}

// run returns the length of the characters of class c at the start of s.
func run(s string, c class) int {
	at := 0
	for {
		got, n := classAt(s[at:])
		if n == 0 || got != c {
			return at
		}
		at += n
	}
}

// blanks matches \s+(?!\S)|\s+ : all of the white space, but for its last
// character where a word follows and something is left.
func blanks(s string) int {
	at, last := 0, 0
	for {
		c, n := classAt(s[at:])
		switch {
		case n == 0:
			return at
		case c != space && c != breaks:
			if last > 0 {
				return last
			}
			return at
		}
		last, at = at, at+n
	}
}

// contraction matches 's, 't, 're, 've, 'm, 'll and 'd, of any case if fold.
func contraction(s string, fold bool) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	if fold && strings.HasPrefix(s[1:], "ſ") { // folds to s
		return 1 + len("ſ")
	}
	at := func(i int) byte {
		if i >= len(s) {
			return 0
		}
		if c := s[i]; fold && 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return s[i]
	}
	switch a, b := at(1), at(2); {
	case a == 's', a == 't', a == 'm', a == 'd':
		return 2
	case a == 'r' && b == 'e', a == 'v' && b == 'e', a == 'l' && b == 'l':
		return 3
	}
	return 0
}

// gpt2Word is gpt2Pattern.
func gpt2Word(s string) int {
	if n := contraction(s, false); n > 0 {
		return n
	}
	skip := 0
	if s[0] == ' ' {
		skip = 1
	}
	if c, _ := classAt(s[skip:]); c < space {
		return skip + run(s[skip:], c)
	}
	return blanks(s)
}

// llama3Word is llama3Pattern.
func llama3Word(s string) int { return foldedWord(s, 3) }

// qwen2Word is qwen2Pattern.
func qwen2Word(s string) int { return foldedWord(s, 1) }

// foldedWord is the pattern of Llama 3 with at most digits numbers in a match.
func foldedWord(s string, digits int) int {
	if n := contraction(s, true); n > 0 {
		return n
	}
	c, n := classAt(s)
	// [^\r\n\p{L}\p{N}]?\p{L}+
	if c == letter {
		return run(s, letter)
	}
	if c == other || c == space {
		if after, _ := classAt(s[n:]); after == letter {
			return n + run(s[n:], letter)
		}
	}
	// \p{N}{1,3}
	if c == number {
		at := n
		for range digits - 1 {
			c, n := classAt(s[at:])
			if c != number {
				break
			}
			at += n
		}
		return at
	}
	//  ?[^\s\p{L}\p{N}]+[\r\n]*
	skip := 0
	if s[0] == ' ' {
		skip = 1
	}
	if n := run(s[skip:], other); n > 0 {
		at := skip + n
		return at + run(s[at:], breaks)
	}
	// \s*[\r\n]+ : up to the last line break of the white space
	at, line := 0, 0
	for {
		c, n := classAt(s[at:])
		if n == 0 || c != space && c != breaks {
			break
		}
		at += n
		if c == breaks {
			line = at
		}
	}
	if line > 0 {
		return line
	}
	return blanks(s)
}
