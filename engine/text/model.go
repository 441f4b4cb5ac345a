package text

import (
	"encoding/json"
	"fmt"
	"strings"
)

// wordModel turns words into ids. It does not change and may be shared.
type wordModel interface {
	id(token string) (int32, bool)
	// each calls note for all tokens; it stops at the first error.
	each(note func(token string, id int32) error) error
	// encoder returns what one goroutine encodes words with.
	encoder() wordEncoder
}

// wordEncoder appends the ids of one word, which is not empty.
type wordEncoder interface {
	encode(dst []int32, word string) []int32
}

var modelNames = []string{"BPE", "Unigram", "WordLevel", "WordPiece"}

// parseModel reads the model. byteLevel says that words end up in the byte-level
// alphabet, so that a byte-pair model may read raw bytes instead.
func parseModel(raw json.RawMessage, byteLevel bool) (wordModel, error) {
	// The kind first: the vocabulary of another kind has another shape.
	var kind struct {
		Type     *string         `json:"type"`
		Vocab    json.RawMessage `json:"vocab"`
		MaxChars *int            `json:"max_input_chars_per_word"`
	}
	if err := unmarshal("model", raw, &kind, 0); err != nil {
		return nil, err
	}
	name := "BPE"
	switch { // files of old do not name it
	case kind.Type != nil:
		name = *kind.Type
	case strings.HasPrefix(string(kind.Vocab), "["):
		name = "Unigram"
	case kind.MaxChars != nil:
		name = "WordPiece"
	}
	switch name {
	case "BPE":
		return parseBPE(raw, byteLevel)
	case "Unigram":
		return parseUnigram(raw)
	case "WordLevel":
		return parseWordLevel(raw)
	case "WordPiece":
		return parseWordPiece(raw)
	}
	return nil, unknown("model", name, modelNames)
}

// vocabulary is the tokens of a model by their spelling.
type vocabulary map[string]int32

func (v vocabulary) id(token string) (int32, bool) {
	id, ok := v[token]
	return id, ok
}

func (v vocabulary) each(note func(token string, id int32) error) error {
	for token, id := range v {
		if err := note(token, id); err != nil {
			return err
		}
	}
	return nil
}

// byteTokens returns the ids of <0x00> to <0xFF>, −1 where there is none.
func byteTokens(id func(string) (int32, bool)) (ids [256]int32) {
	for b := range ids {
		ids[b] = -1
		if known, ok := id(fmt.Sprintf("<0x%02X>", b)); ok {
			ids[b] = known
		}
	}
	return ids
}

// appendBytes appends the byte tokens of s, if there are all of them.
func appendBytes(dst []int32, tokens *[256]int32, s string) ([]int32, bool) {
	from := len(dst)
	for i := range len(s) {
		id := tokens[s[i]]
		if id < 0 {
			return dst[:from], false
		}
		dst = append(dst, id)
	}
	return dst, true
}

// cached encodes words, remembering those it has seen.
type cached struct {
	wordEncoder
	seen map[string][]int32
}

// The cache starts over when it holds cacheWords words; longer words than
// cacheBytes are not kept.
const (
	cacheWords = 1 << 15
	cacheBytes = 64
)

func newCachedEncoder(e wordEncoder) *cached {
	return &cached{wordEncoder: e, seen: map[string][]int32{}}
}

// encode implements wordEncoder.
func (c *cached) encode(dst []int32, word string) []int32 {
	if len(word) > cacheBytes {
		return c.wordEncoder.encode(dst, word)
	}
	if ids, ok := c.seen[word]; ok {
		return append(dst, ids...)
	}
	from := len(dst)
	dst = c.wordEncoder.encode(dst, word)
	if len(c.seen) >= cacheWords {
		clear(c.seen)
	}
	c.seen[strings.Clone(word)] = append([]int32(nil), dst[from:]...)
	return dst
}
