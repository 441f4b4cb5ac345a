package text

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// maxDepth is how deep a component may stand inside Sequences.
const maxDepth = 8

// Parse reads a tokenizer.json.
func Parse(tokenizerJSON []byte) (*Tokenizer, error) {
	t, err := parse(tokenizerJSON)
	if err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	return t, nil
}

func parse(data []byte) (*Tokenizer, error) {
	var doc struct {
		Added        []addedToken    `json:"added_tokens"`
		Normalizer   json.RawMessage `json:"normalizer"`
		PreTokenizer json.RawMessage `json:"pre_tokenizer"`
		Model        json.RawMessage `json:"model"`
		Post         json.RawMessage `json:"post_processor"`
		Decoder      json.RawMessage `json:"decoder"`
	}
	if err := unmarshal("document", data, &doc, 0); err != nil {
		return nil, err
	}
	if isNull(doc.Model) {
		return nil, malformed("there is no model")
	}
	t := &Tokenizer{added: doc.Added}
	var err error
	if t.normalize, err = parseNormalizer(doc.Normalizer, 0); err != nil {
		return nil, err
	}
	if t.split, err = parseSplitter(doc.PreTokenizer, 0); err != nil {
		return nil, err
	}
	if t.post, err = parsePost(doc.Post, 0); err != nil {
		return nil, err
	}
	if t.decode, err = parseDecoder(doc.Decoder, 0); err != nil {
		return nil, err
	}
	last := len(t.split) - 1
	var bytes byteLevel
	byteLast := false
	if last >= 0 {
		bytes, byteLast = t.split[last].(byteLevel)
	}
	if t.model, err = parseModel(doc.Model, byteLast); err != nil {
		return nil, err
	}
	if m, ok := t.model.(*bpe); ok && m.bytes {
		bytes.mapped = false
		t.split[last] = bytes
	}
	if err := t.addTokens(len(data)); err != nil {
		return nil, err
	}
	return t, nil
}

// addTokens indexes the added tokens and the tokens by id. An id must be less than
// limit, the size of the file.
func (t *Tokenizer) addTokens(limit int) error {
	t.raw, t.normalized = newMatcher(), newMatcher()
	t.addedIDs, t.special = map[string]int32{}, map[int32]bool{}
	size := 0
	note := func(token string, id int32) error {
		if id < 0 || int(id) >= limit {
			return malformed("token %.60q has the id %d, outside [0, %d)", token, id, limit)
		}
		size = max(size, int(id)+1)
		return nil
	}
	if err := t.model.each(note); err != nil {
		return err
	}
	for i := range t.added {
		a := &t.added[i]
		if id, ok := t.model.id(a.Content); ok {
			a.ID = id // the vocabulary's word counts, as in the reference
		}
		if err := note(a.Content, a.ID); err != nil {
			return err
		}
	}
	t.tokens = make([]string, size)
	if err := t.model.each(func(token string, id int32) error {
		if t.tokens[id] != "" {
			return malformed("model: the tokens %.60q and %.60q have the same id %d", min(token, t.tokens[id]), max(token, t.tokens[id]), id)
		}
		t.tokens[id] = token
		return nil
	}); err != nil {
		return err
	}
	for _, a := range t.added {
		if a.Content == "" {
			continue
		}
		t.tokens[a.ID] = a.Content
		t.addedIDs[a.Content] = a.ID
		if a.Special {
			t.special[a.ID] = true
		}
		if !a.Normalized {
			t.raw.add(a.Content, a)
			continue
		}
		content := a.Content
		for _, n := range t.normalize {
			content = n(content)
		}
		t.normalized.add(content, a)
	}
	for _, p := range t.post {
		for _, piece := range slices.Concat(p.single, p.pair) {
			for _, id := range piece.ids {
				if id < 0 || int(id) >= size {
					return malformed("post_processor: there is no token with the id %d", id)
				}
			}
		}
	}
	return nil
}

// unmarshal decodes a component; where names it in errors.
func unmarshal(where string, raw json.RawMessage, v any, depth int) error {
	if depth > maxDepth {
		return malformed("%s: more than %d levels of Sequence", where, maxDepth)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w: %w", where, err, ErrFormat)
	}
	return nil
}

// parseAll parses the parts of a Sequence and joins their stages.
func parseAll[T any](parts []json.RawMessage, depth int, parse func(json.RawMessage, int) ([]T, error)) ([]T, error) {
	var all []T
	for _, raw := range parts {
		stages, err := parse(raw, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, stages...)
	}
	return all, nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || bytes.Equal(raw, []byte("null")) }

func malformed(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrFormat)...)
}

func unknown(where, name string, known []string) error {
	return malformed("%s: %q is not supported (known: %s)", where, name, strings.Join(known, ", "))
}
