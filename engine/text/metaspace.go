package text

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// metaspace is sentencepiece's way to keep spaces: a space becomes a visible
// character, one more is put in front, and words start at it.
type metaspace struct {
	blank   string
	prepend prependScheme
	cut     bool // into words
}

// prependScheme says which pieces get a blank in front.
type prependScheme string

const (
	prependAlways prependScheme = "always"
	prependFirst  prependScheme = "first" // the piece that begins the text
	prependNever  prependScheme = "never"
)

// parseMetaspace reads the pre-tokenizer and the decoder.
func parseMetaspace(where string, raw json.RawMessage) (metaspace, error) {
	c := struct {
		Replacement string        `json:"replacement"`
		Prefix      *bool         `json:"add_prefix_space"` // of older files
		Prepend     prependScheme `json:"prepend_scheme"`
		Split       *bool         `json:"split"`
	}{Replacement: string(blank), Prepend: prependAlways}
	if err := unmarshal(where, raw, &c, 0); err != nil {
		return metaspace{}, err
	}
	if utf8.RuneCountInString(c.Replacement) != 1 {
		return metaspace{}, malformed("%s: Metaspace: the replacement is %.60q, want one character", where, c.Replacement)
	}
	switch c.Prepend {
	case prependAlways, prependFirst, prependNever:
	default:
		return metaspace{}, unknown(where+": Metaspace: prepend_scheme", string(c.Prepend),
			[]string{string(prependAlways), string(prependFirst), string(prependNever)})
	}
	if c.Prefix != nil && !*c.Prefix && c.Prepend != prependFirst {
		c.Prepend = prependNever
	}
	return metaspace{c.Replacement, c.Prepend, c.Split == nil || *c.Split}, nil
}

func (m metaspace) split(s string, emit func(string)) { m.splitAt(s, false, emit) }

// splitAt implements startSplitter.
func (m metaspace) splitAt(s string, start bool, emit func(string)) {
	s = strings.ReplaceAll(s, " ", m.blank)
	if (m.prepend == prependAlways || m.prepend == prependFirst && start) && !strings.HasPrefix(s, m.blank) {
		s = m.blank + s
	}
	if !m.cut {
		if s != "" {
			emit(s)
		}
		return
	}
	for s != "" {
		n := len(s)
		_, first := utf8.DecodeRuneInString(s)
		if i := strings.Index(s[first:], m.blank); i >= 0 {
			n = first + i
		}
		emit(s[:n])
		s = s[n:]
	}
}

// decode turns blanks into spaces; those of the first token are not the text's.
func (m metaspace) decode(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, token := range tokens {
		space := " "
		if i == 0 && m.prepend != prependNever {
			space = ""
		}
		out[i] = strings.ReplaceAll(token, m.blank, space)
	}
	return out
}
