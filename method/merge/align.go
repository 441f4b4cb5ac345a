package merge

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// alignment brings the models' embeddings to one vocabulary before they are merged, as
// mergekit does: a model's own row where it has the token; else the base's; else that
// of the only model that has it; else the mean of those that do.
type alignment struct {
	vocabulary map[string]int // the merged model's
	size, rows int            // tokens, and rows with padding
	own        map[*input]map[string]int
	rules      map[string]TokenRule
	file       []byte // the merged model's tokenizer.json; nil for that of from
	from       *input // whose other tokenizer files are kept
	added      []addedToken
}

// aligned says where the rows of one model's version of a tensor come from.
type aligned struct {
	own      []int32 // by token: the model's row, -1 for a borrowed one
	borrowed map[int][]borrow
	donors   []*version // all of the tensor's
	self     int        // the model among them
	rows     int
}

// borrow is a row of another model's tensor.
type borrow struct{ donor, row int }

// aligns reports whether a tensor's rows are brought to the merged vocabulary.
func (m *merger) aligns(name string) bool { return m.align != nil && isVocabulary(name) }

// isVocabulary reports whether a tensor has a row for each token, by the names that
// published architectures use.
func isVocabulary(name string) bool {
	return outside(name, "embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in", "embed_out",
		"lm_head", "shared", "predictions.bias", "predictions.decoder")
}

// isEmbedding reports whether a tensor stands before the layers, and in WIDEN whether
// its rows are tokens' vectors.
func isEmbedding(name string) bool { return outside(name, "embed", "wte", "wpe", "shared") }

// outside reports whether a tensor lies outside the layers, which have shared experts and
// position embeddings of their own, and has one of the words in its name.
func outside(name string, words ...string) bool {
	_, _, layered := layerOf(name)
	return !layered && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
}

// addedToken is an entry of a tokenizer's added_tokens; its other keys are kept.
type addedToken struct {
	ID      int
	Content string
	raw     map[string]json.RawMessage
}

// tokens is what tokenizer.json says of tokens and their numbers.
type tokens struct {
	ids   map[string]int
	added []addedToken
	file  map[string]json.RawMessage
	text  []byte
}

// tokensOf reads a model's vocabulary; nil where it has no tokenizer.json. A file that is
// one of the known, as most tunes have their base's, is not parsed again.
func tokensOf(in *input, known ...*tokens) (*tokens, error) {
	data, err := in.Read("tokenizer.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, t := range known {
		if t != nil && bytes.Equal(t.text, data) {
			return t, nil
		}
	}
	t := &tokens{ids: map[string]int{}, text: data}
	if err := t.read(data); err != nil {
		return nil, fmt.Errorf("merge: model %s: tokenizer.json: %w", in.name, err)
	}
	return t, nil
}

func (t *tokens) read(data []byte) error {
	if err := json.Unmarshal(data, &t.file); err != nil {
		return err
	}
	var model struct {
		Vocab json.RawMessage `json:"vocab"`
	}
	if err := json.Unmarshal(t.file["model"], &model); err != nil {
		return err
	}
	if list := bytes.TrimSpace(model.Vocab); len(list) > 0 && list[0] == '[' { // Unigram: pieces and scores
		var pieces [][]any
		if err := json.Unmarshal(list, &pieces); err != nil {
			return err
		}
		for i, p := range pieces {
			if len(p) == 0 {
				return fmt.Errorf("piece %d is empty", i)
			}
			word, ok := p[0].(string)
			if !ok {
				return fmt.Errorf("piece %d is no text", i)
			}
			t.ids[word] = i
		}
	} else if err := json.Unmarshal(model.Vocab, &t.ids); err != nil {
		return err
	}
	var added []map[string]json.RawMessage
	if raw := t.file["added_tokens"]; raw != nil {
		if err := json.Unmarshal(raw, &added); err != nil {
			return err
		}
	}
	for _, raw := range added {
		a := addedToken{raw: raw}
		if err := errors.Join(json.Unmarshal(raw["id"], &a.ID), json.Unmarshal(raw["content"], &a.Content)); err != nil {
			return fmt.Errorf("added_tokens: %w", err)
		}
		t.ids[a.Content] = a.ID
		t.added = append(t.added, a)
	}
	for word, id := range t.ids {
		if id < 0 || id > maxTokens {
			return fmt.Errorf("token %q has the number %d", word, id)
		}
	}
	return nil
}

// maxTokens is far above any vocabulary, so that a wrong number asks for no memory.
const maxTokens = 1 << 24

// order lists tokens by their numbers.
func (t *tokens) order() []string {
	words := make([]string, 0, len(t.ids))
	for w := range t.ids {
		words = append(words, w)
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(t.ids[a], t.ids[b]), cmp.Compare(a, b)) })
	return words
}

// checkTokenizers settles the merged vocabulary, or without a tokenizer_source refuses
// models in which one number means two tokens.
func (m *merger) checkTokenizers() error {
	all := map[*input]*tokens{}
	for _, in := range m.opened {
		t, err := tokensOf(in, slices.Collect(maps.Values(all))...)
		if err != nil {
			return err
		}
		all[in] = t
	}
	if m.recipe.Tokenizer.Source == "" {
		return m.compareTokens(all)
	}
	a := &alignment{own: map[*input]map[string]int{}, rules: map[string]TokenRule{}, from: m.lead}
	if s := m.recipe.Tokenizer.Source; s != "base" && s != "union" {
		in, err := m.model(s)
		if err != nil {
			return err
		}
		a.from = in
	}
	from := all[a.from]
	if from == nil {
		return fmt.Errorf("merge: %w: tokenizer_source: model %s has no tokenizer.json", ErrMismatch, a.from.name)
	}
	for _, in := range m.opened {
		if a.own[in] = from.ids; all[in] != nil {
			a.own[in] = all[in].ids
		} else {
			m.warnings = append(m.warnings, fmt.Sprintf("model %s has no tokenizer.json; that of %s is taken for it", in.name, a.from.name))
		}
	}
	m.align = a
	a.vocabulary = map[string]int{}
	for w, id := range from.ids {
		a.vocabulary[w] = id
		a.size = max(a.size, id+1)
	}
	if m.recipe.Tokenizer.Source == "union" {
		for _, in := range m.opened {
			if in != a.from && all[in] != nil {
				a.join(all[in])
			}
		}
	}
	return m.addTokens(from)
}

// compareTokens refuses vocabularies that contradict one another.
func (m *merger) compareTokens(all map[*input]*tokens) error {
	lead := all[m.lead]
	if lead == nil {
		return nil
	}
	for _, in := range m.opened {
		own := all[in]
		if own == nil || own == lead {
			continue
		}
		by := make(map[int]string, len(own.ids))
		for w, id := range own.ids {
			by[id] = w
		}
		for _, w := range lead.order() {
			id := lead.ids[w]
			if other, ok := by[id]; ok && other != w && own.ids[w] != id {
				return fmt.Errorf("merge: %w: the vocabularies of %s and %s differ, number %d is %q in one and %q in the other; add tokenizer_source: base, union or one of the models",
					ErrMismatch, m.lead.name, in.name, id, w, other)
			}
		}
		if len(own.ids) != len(lead.ids) {
			m.warnings = append(m.warnings, fmt.Sprintf("%s has %d tokens and %s %d; embeddings are merged row by row", m.lead.name, len(lead.ids), in.name, len(own.ids)))
		}
	}
	return nil
}

// join appends what another vocabulary has more.
func (a *alignment) join(t *tokens) {
	for _, w := range t.order() {
		if _, known := a.vocabulary[w]; known {
			continue
		}
		token := addedToken{Content: w}
		if i := slices.IndexFunc(t.added, func(x addedToken) bool { return x.Content == w }); i >= 0 {
			token = t.added[i]
		}
		a.add(token)
	}
}

func (a *alignment) add(t addedToken) {
	t.ID = a.size
	a.size++
	a.vocabulary[t.Content] = t.ID
	a.added = append(a.added, t)
}

// addTokens takes in the recipe's rules of single tokens and writes the tokenizer.
func (m *merger) addTokens(from *tokens) (err error) {
	a, t := m.align, m.recipe.Tokenizer
	for _, rule := range t.Tokens {
		a.rules[rule.Token] = rule
		if _, known := a.vocabulary[rule.Token]; !known {
			a.add(addedToken{Content: rule.Token})
		}
		if rule.Model == "" {
			continue
		}
		in, err := m.model(rule.Model)
		if err != nil {
			return err
		}
		word := cmp.Or(rule.Of, rule.Token)
		if _, has := a.own[in][word]; rule.ID < 0 && !has {
			return fmt.Errorf("merge: %w: tokenizer.tokens: model %s has no token %q", ErrMismatch, rule.Model, word)
		}
	}
	a.rows = a.size
	if t.Multiple > 1 {
		a.rows = (a.size + t.Multiple - 1) / t.Multiple * t.Multiple
	}
	if a.added != nil {
		a.file, err = from.with(a.added)
	}
	return err
}

// with returns tokenizer.json with further tokens.
func (t *tokens) with(more []addedToken) ([]byte, error) {
	entries := []map[string]json.RawMessage{}
	for _, a := range t.added {
		entries = append(entries, a.raw)
	}
	for _, a := range more {
		entry := map[string]json.RawMessage{"special": []byte("false"), "single_word": []byte("false"), "lstrip": []byte("false"),
			"rstrip": []byte("false"), "normalized": []byte("true")}
		for key, v := range a.raw {
			entry[key] = v
		}
		word, err := json.Marshal(a.Content)
		if err != nil {
			return nil, err
		}
		entry["content"], entry["id"] = word, fmt.Appendf(nil, "%d", a.ID)
		entries = append(entries, entry)
	}
	list, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	file := map[string]json.RawMessage{}
	for key, v := range t.file {
		file[key] = v
	}
	file["added_tokens"] = list
	data, err := json.MarshalIndent(file, "", "  ")
	return append(data, '\n'), err
}

// alignRows sets where the rows of a job's versions come from and returns its shape.
func (m *merger) alignRows(j *job, base string) []int {
	a, donors := m.align, j.all()
	has := make([][]int32, len(donors)) // by donor and token, -1 where it lacks one
	first := -1                         // the base among the donors
	for d, v := range donors {
		if sameModel(v.in.name, base) {
			first = d
		}
		has[d] = slices.Repeat([]int32{-1}, a.size)
		for w, id := range a.vocabulary {
			if own, ok := a.own[v.in][w]; ok && own < v.info.Shape[0] {
				has[d][id] = int32(own)
			}
		}
	}
	borrowed := map[int][]borrow{}
	for id := range a.size {
		var from []borrow
		for d := range donors {
			if has[d][id] >= 0 {
				from = append(from, borrow{d, int(has[d][id])})
			}
		}
		switch {
		case len(from) == len(donors):
			continue
		case first >= 0 && has[first][id] >= 0:
			from = []borrow{{first, int(has[first][id])}}
		}
		borrowed[id] = from
	}
	for word, rule := range a.rules {
		id := a.vocabulary[word]
		borrowed[id] = nil
		for d, v := range donors {
			if !sameModel(v.in.name, rule.Model) {
				continue
			}
			row := rule.ID
			if row < 0 {
				row = a.own[v.in][cmp.Or(rule.Of, word)]
			}
			if row < v.info.Shape[0] {
				borrowed[id] = []borrow{{d, row}}
			}
		}
		if rule.Force {
			for d := range donors {
				has[d][id] = -1
			}
		}
	}
	for d, v := range donors {
		v.rows = &aligned{own: has[d], borrowed: borrowed, donors: donors, self: d, rows: a.rows}
	}
	return append([]int{a.rows}, j.shape[1:]...)
}
