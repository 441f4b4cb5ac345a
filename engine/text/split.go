package text

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitter cuts a piece into smaller ones, in order; none is empty.
type splitter interface {
	split(s string, emit func(string))
}

// startSplitter is a splitter to which it matters whether a piece is the start of
// the whole text.
type startSplitter interface {
	splitAt(s string, start bool, emit func(string))
}

// runSplit passes s through all stages; start says that s begins the text.
func runSplit(stages []splitter, s string, start bool, emit func(string)) {
	if len(stages) == 0 {
		if s != "" {
			emit(s)
		}
		return
	}
	out := emit
	if len(stages) > 1 {
		out = func(piece string) {
			runSplit(stages[1:], piece, start && strings.HasPrefix(s, piece), emit)
			start = false
		}
	}
	if first, ok := stages[0].(startSplitter); ok {
		first.splitAt(s, start, out)
	} else {
		stages[0].split(s, out)
	}
}

// span is a stretch of a string; match says that the pattern matched it.
type span struct {
	lo, hi int
	match  bool
}

// pattern cuts a string into matches and what is between them, in order.
type pattern interface {
	spans(dst []span, s string) []span
}

// behavior says what becomes of the matches of a pattern.
type behavior string

const (
	isolated   behavior = "Isolated"           // a piece each
	removed    behavior = "Removed"            // left out
	previous   behavior = "MergedWithPrevious" // the end of the piece before
	next       behavior = "MergedWithNext"     // the start of the piece after
	contiguous behavior = "Contiguous"         // neighbouring matches are one piece
)

// patternSplit is Split, and with other patterns Digits, Punctuation and Whitespace.
type patternSplit struct {
	pattern  pattern
	behavior behavior
	invert   bool // what is between the matches counts as the match
}

func (p patternSplit) split(s string, emit func(string)) {
	spans := p.pattern.spans(make([]span, 0, 64), s)
	if p.invert {
		for i := range spans {
			spans[i].match = !spans[i].match
		}
	}
	for _, x := range merge(spans, p.behavior) {
		if x.lo < x.hi && !(x.match && p.behavior == removed) {
			emit(s[x.lo:x.hi])
		}
	}
}

// merge joins spans as the behavior says, in place.
func merge(spans []span, b behavior) []span {
	out := spans[:0]
	was := false
	switch b {
	case contiguous:
		for _, x := range spans {
			if x.match == was && len(out) > 0 {
				out[len(out)-1].hi = x.hi
			} else {
				out = append(out, x)
			}
			was = x.match
		}
	case previous:
		for _, x := range spans {
			if x.match && !was && len(out) > 0 {
				out[len(out)-1].hi = x.hi
			} else {
				out = append(out, x)
			}
			was = x.match
		}
	case next: // as previous, from the end
		at := len(spans)
		for i := len(spans) - 1; i >= 0; i-- {
			x := spans[i]
			if x.match && !was && at < len(spans) {
				spans[at].lo = x.lo
			} else {
				at--
				spans[at] = x
			}
			was = x.match
		}
		out = spans[at:]
	default:
		out = spans
	}
	return out
}

// byteLevel is the pre-tokenizer of GPT-2. Mapping bytes to the alphabet is left to
// the model if this is the last stage.
type byteLevel struct {
	prefix, regex, mapped bool
}

func (b byteLevel) split(s string, emit func(string)) {
	if s == "" {
		return
	}
	if b.prefix && !strings.HasPrefix(s, " ") {
		s = " " + s
	}
	out := emit
	if b.mapped {
		out = func(piece string) { emit(string(appendMapped(nil, piece))) }
	}
	if b.regex {
		scanner(gpt2Word).split(s, out)
	} else {
		out(s)
	}
}

var splitterNames = []string{"BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation", "Sequence", "Split", "Whitespace", "WhitespaceSplit"}

// parseSplitter returns the stages of a pre-tokenizer in order.
func parseSplitter(raw json.RawMessage, depth int) ([]splitter, error) {
	c := struct {
		Type       string            `json:"type"`
		Stages     []json.RawMessage `json:"pretokenizers"`
		Prefix     bool              `json:"add_prefix_space"`
		Regex      bool              `json:"use_regex"`
		Pattern    json.RawMessage   `json:"pattern"`
		Behavior   behavior          `json:"behavior"`
		Invert     bool              `json:"invert"`
		Individual bool              `json:"individual_digits"`
		Delimiter  string            `json:"delimiter"`
	}{Regex: true}
	if isNull(raw) {
		return nil, nil
	}
	if err := unmarshal("pre_tokenizer", raw, &c, depth); err != nil {
		return nil, err
	}
	one := func(p splitter) ([]splitter, error) { return []splitter{p}, nil }
	switch c.Type {
	case "Sequence":
		return parseAll(c.Stages, depth, parseSplitter)
	case "ByteLevel":
		return one(byteLevel{prefix: c.Prefix, regex: c.Regex, mapped: true})
	case "Metaspace":
		m, err := parseMetaspace("pre_tokenizer", raw)
		if err != nil {
			return nil, err
		}
		return one(m)
	case "BertPreTokenizer":
		return []splitter{
			patternSplit{pattern: runeIs(unicode.IsSpace), behavior: removed},
			patternSplit{pattern: runeIs(isPunctuation), behavior: isolated},
		}, nil
	case "Split":
		return parseSplit(c.Pattern, c.Behavior, c.Invert)
	case "Digits":
		b := contiguous
		if c.Individual {
			b = isolated
		}
		return one(patternSplit{pattern: runeIs(unicode.IsNumber), behavior: b})
	case "Punctuation":
		if c.Behavior == "" {
			c.Behavior = isolated
		}
		if err := c.Behavior.check(); err != nil {
			return nil, err
		}
		return one(patternSplit{pattern: runeIs(isPunctuation), behavior: c.Behavior})
	case "Whitespace":
		return one(wordSplit{})
	case "WhitespaceSplit":
		return one(patternSplit{pattern: runeIs(unicode.IsSpace), behavior: removed})
	case "CharDelimiterSplit":
		r, n := utf8.DecodeRuneInString(c.Delimiter)
		if n == 0 || n != len(c.Delimiter) {
			return nil, malformed("pre_tokenizer: CharDelimiterSplit: the delimiter %q is not one character", c.Delimiter)
		}
		return one(patternSplit{pattern: runeIs(func(c rune) bool { return c == r }), behavior: removed})
	}
	return nil, unknown("pre_tokenizer", c.Type, splitterNames)
}

func parseSplit(raw json.RawMessage, b behavior, invert bool) ([]splitter, error) {
	p, err := parsePattern("pre_tokenizer: Split", raw)
	if err == nil {
		err = b.check()
	}
	if err != nil {
		return nil, err
	}
	if f, ok := p.(scanner); ok && b == isolated {
		return []splitter{f}, nil // every character is in a match
	}
	return []splitter{patternSplit{p, b, invert}}, nil
}

func (b behavior) check() error {
	switch b {
	case isolated, removed, previous, next, contiguous:
		return nil
	}
	return unknown("pre_tokenizer: behavior", string(b),
		[]string{string(isolated), string(removed), string(previous), string(next), string(contiguous)})
}

// isPunctuation is Unicode's category P and the ASCII symbols.
func isPunctuation(r rune) bool {
	return unicode.IsPunct(r) || r < 0x80 && unicode.IsSymbol(r)
}

// wordSplit is Whitespace: \w+|[^\w\s]+, the rest is left out.
type wordSplit struct{}

func (wordSplit) split(s string, emit func(string)) {
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case unicode.IsSpace(r):
			return 0
		}
		return 2
	}
	start, was := 0, 0
	for i, r := range s {
		if k := kind(r); k != was {
			if was != 0 {
				emit(s[start:i])
			}
			start, was = i, k
		}
	}
	if was != 0 {
		emit(s[start:])
	}
}
