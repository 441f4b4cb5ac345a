// Package text turns text into token ids and back, from the tokenizer.json files
// that Hugging Face's tokenizers library writes: byte-pair encoding, byte level
// (GPT-2, Llama 3, Qwen, SmolLM) or with byte fallback (Llama 2, Gemma), WordPiece
// (BERT), Unigram (T5, XLM-R) and whole words.
//
// Text runs through five stages, each a part of the file: added tokens are cut
// out, the rest is normalised, split into words, each word is encoded by the
// model, and the post-processor puts special tokens around the whole. The same
// file and text give the same ids as the reference; truncation and padding that
// a file may ask for are left to whoever makes batches.
//
// Train makes such a file from text. A Chat writes a conversation as the text that a
// model was tuned on.
package text

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// ErrFormat marks a tokenizer.json that is malformed or asks for a component that
// is not supported.
var ErrFormat = errors.New("not a tokenizer.json that can be used")

// Tokenizer encodes and decodes. It is safe for concurrent use.
type Tokenizer struct {
	added      []addedToken
	addedIDs   map[string]int32
	special    map[int32]bool
	raw        *matcher // added tokens found in the text as it is
	normalized *matcher // added tokens found after the normaliser
	normalize  []normalizer
	split      []splitter
	model      wordModel
	post       []template
	decode     []decoder
	tokens     []string // by id; "" where there is none
	scratch    sync.Pool
}

// Load reads a tokenizer.json.
func Load(path string) (*Tokenizer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Encode returns the ids of s with what the post-processor adds, such as a
// beginning-of-text token. Special and other added tokens that stand in s are
// recognised. Bytes that are not UTF-8 count as U+FFFD.
func (t *Tokenizer) Encode(s string) []int32 {
	ids := t.EncodeOrdinary(s)
	for _, p := range t.post {
		ids = p.apply(ids)
	}
	return ids
}

// EncodeOrdinary returns the ids of s alone: the post-processor adds nothing.
func (t *Tokenizer) EncodeOrdinary(s string) []int32 {
	w, _ := t.scratch.Get().(*cached)
	if w == nil {
		w = newCachedEncoder(t.model.encoder())
	}
	defer t.scratch.Put(w)

	ids := make([]int32, 0, len(s)/4+1)
	start := true // nothing of s has been seen
	word := func(piece string) { ids = w.encode(ids, piece) }
	inner := func(id int32, piece string) {
		if id >= 0 {
			ids = append(ids, id)
		} else {
			runSplit(t.split, piece, start, word)
		}
		start = false
	}
	t.raw.cut(validUTF8(s), func(id int32, piece string) {
		if id >= 0 {
			ids, start = append(ids, id), false
			return
		}
		for _, n := range t.normalize {
			piece = n(piece)
		}
		t.normalized.cut(piece, inner)
	})
	return ids
}

// Decode returns the text of ids, without special tokens if skipSpecial. Ids that
// the tokenizer does not have are left out; bytes that are not UTF-8 become U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	parts := make([]string, 0, len(ids))
	for _, id := range ids {
		if token := t.Token(id); token != "" && !(skipSpecial && t.special[id]) {
			parts = append(parts, token)
		}
	}
	return runDecode(t.decode, parts)
}

// VocabSize returns one more than the largest id, added tokens included.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of a token as the file spells it.
func (t *Tokenizer) ID(token string) (int32, bool) {
	if id, ok := t.addedIDs[token]; ok {
		return id, true
	}
	return t.model.id(token)
}

// Token returns the token of an id as the file spells it, "" if there is none.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}
