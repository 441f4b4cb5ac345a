package text

import (
	"encoding/json"
	"unicode/utf8"
)

// wordPiece is BERT's model: from the left, the longest token that the rest of the
// word starts with; tokens inside a word are spelled with a prefix, "##". A word
// that cannot be cut whole is the unknown token. (Schuster & Nakajima 2012; Devlin
// et al. 2019, arXiv:1810.04805.)
type wordPiece struct {
	vocabulary
	unknown  int32
	prefix   string
	maxChars int // longer words are unknown
	longest  int // bytes of the longest token
}

// parseWordPiece reads a model of the kind WordPiece.
func parseWordPiece(raw json.RawMessage) (*wordPiece, error) {
	c := struct {
		Vocab    map[string]int32 `json:"vocab"`
		Unknown  string           `json:"unk_token"`
		Prefix   string           `json:"continuing_subword_prefix"`
		MaxChars int              `json:"max_input_chars_per_word"`
	}{Unknown: "[UNK]", Prefix: "##", MaxChars: 100}
	if err := unmarshal("model", raw, &c, 0); err != nil {
		return nil, err
	}
	unknown, err := unknownOf(c.Vocab, c.Unknown)
	if err != nil {
		return nil, err
	}
	if c.MaxChars < 0 {
		return nil, malformed("model: max_input_chars_per_word is %d", c.MaxChars)
	}
	m := &wordPiece{vocabulary: c.Vocab, unknown: unknown, prefix: c.Prefix, maxChars: c.MaxChars}
	for token := range c.Vocab {
		m.longest = max(m.longest, len(token))
	}
	return m, nil
}

// unknownOf returns the id of the token for unknown words, which the vocabulary
// must have.
func unknownOf(vocab vocabulary, token string) (int32, error) {
	if len(vocab) == 0 {
		return 0, malformed("model: there is no vocab")
	}
	id, ok := vocab[token]
	if !ok {
		return 0, malformed("model: unk_token %q is not in the vocab", token)
	}
	return id, nil
}

func (m *wordPiece) encoder() wordEncoder { return &pieceCutter{m: m} }

// pieceCutter encodes words of a wordPiece.
type pieceCutter struct {
	m   *wordPiece
	buf []byte // the prefix and what is left of the word
}

// encode implements wordEncoder.
func (c *pieceCutter) encode(dst []int32, word string) []int32 {
	m := c.m
	if utf8.RuneCountInString(word) > m.maxChars {
		return append(dst, m.unknown)
	}
	from := len(dst)
	for at := 0; at < len(word); {
		prefix := ""
		if at > 0 {
			prefix = m.prefix
		}
		id, n := c.longest(prefix, word[at:])
		if n == 0 {
			return append(dst[:from], m.unknown)
		}
		dst = append(dst, id)
		at += n
	}
	return dst
}

// longest returns the longest token that is prefix and the start of rest, and how
// many bytes of rest it takes, 0 if there is none.
func (c *pieceCutter) longest(prefix, rest string) (id int32, n int) {
	c.buf = append(append(c.buf[:0], prefix...), rest...)
	end := min(len(c.buf), c.m.longest)
	for end > len(prefix) {
		if end == len(c.buf) || utf8.RuneStart(c.buf[end]) {
			if id, ok := c.m.vocabulary[string(c.buf[:end])]; ok {
				return id, end - len(prefix)
			}
		}
		end--
	}
	return 0, 0
}

// wordLevel has a token for every word it knows.
type wordLevel struct {
	vocabulary
	unknown int32
}

// parseWordLevel reads a model of the kind WordLevel.
func parseWordLevel(raw json.RawMessage) (*wordLevel, error) {
	var c struct {
		Vocab   map[string]int32 `json:"vocab"`
		Unknown string           `json:"unk_token"`
	}
	if err := unmarshal("model", raw, &c, 0); err != nil {
		return nil, err
	}
	unknown, err := unknownOf(c.Vocab, c.Unknown)
	if err != nil {
		return nil, err
	}
	return &wordLevel{c.Vocab, unknown}, nil
}

func (m *wordLevel) encoder() wordEncoder { return m }

// encode implements wordEncoder.
func (m *wordLevel) encode(dst []int32, word string) []int32 {
	if id, ok := m.vocabulary[word]; ok {
		return append(dst, id)
	}
	return append(dst, m.unknown)
}
