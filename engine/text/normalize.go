package text

import (
	"encoding/json"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites a piece of text before it is split.
type normalizer func(string) string

var normalizerNames = []string{"BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Replace", "Sequence", "Strip", "StripAccents"}

// parseNormalizer returns the stages of a normalizer in order.
func parseNormalizer(raw json.RawMessage, depth int) ([]normalizer, error) {
	var c struct {
		Type        string            `json:"type"`
		Normalizers []json.RawMessage `json:"normalizers"`
		Prepend     string            `json:"prepend"`
		Pattern     json.RawMessage   `json:"pattern"`
		Content     string            `json:"content"`
		StripLeft   bool              `json:"strip_left"`
		StripRight  bool              `json:"strip_right"`
		Charsmap    []byte            `json:"precompiled_charsmap"`
	}
	if isNull(raw) {
		return nil, nil
	}
	if err := unmarshal("normalizer", raw, &c, depth); err != nil {
		return nil, err
	}
	one := func(f normalizer) ([]normalizer, error) { return []normalizer{f}, nil }
	switch c.Type {
	case "Sequence":
		return parseAll(c.Normalizers, depth, parseNormalizer)
	case "BertNormalizer":
		return parseBertNormalizer(raw)
	case "NFC":
		return one(norm.NFC.String)
	case "NFD":
		return one(norm.NFD.String)
	case "NFKC":
		return one(norm.NFKC.String)
	case "NFKD":
		return one(norm.NFKD.String)
	case "Lowercase":
		return one(lower)
	case "Nmt":
		return one(nmt)
	case "StripAccents":
		return one(func(s string) string { return without(unicode.M, s) })
	case "Precompiled":
		m, err := parseCharsmap(c.Charsmap)
		if err != nil {
			return nil, err
		}
		return one(m.normalize)
	case "ByteLevel":
		return one(func(s string) string { return string(appendMapped(nil, s)) })
	case "Prepend":
		return one(func(s string) string {
			if s == "" {
				return s
			}
			return c.Prepend + s
		})
	case "Replace":
		replace, err := parseReplace("normalizer", c.Pattern, c.Content)
		return []normalizer{replace}, err
	case "Strip":
		return one(func(s string) string {
			if c.StripLeft {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if c.StripRight {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		})
	}
	return nil, unknown("normalizer", c.Type, normalizerNames)
}

// lower maps every character by itself, so a final sigma is not special. Only
// U+0130 becomes two characters.
func lower(s string) string {
	return strings.ReplaceAll(strings.Map(func(r rune) rune {
		if r == 'İ' {
			return r
		}
		return unicode.ToLower(r)
	}, s), "İ", "i̇")
}

// parseReplace returns the rewriting of every match of pattern to content.
func parseReplace(where string, raw json.RawMessage, content string) (func(string) string, error) {
	p, err := parsePattern(where, raw)
	if err != nil {
		return nil, err
	}
	return func(s string) string {
		var b strings.Builder
		for _, x := range p.spans(nil, s) {
			if x.match {
				b.WriteString(content)
			} else {
				b.WriteString(s[x.lo:x.hi])
			}
		}
		return b.String()
	}, nil
}
