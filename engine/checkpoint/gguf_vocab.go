package checkpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// hfTokenizer is what a GGUF file takes from tokenizer.json.
type hfTokenizer struct {
	Added []struct {
		ID      int    `json:"id"`
		Content string `json:"content"`
		Special bool   `json:"special"`
	} `json:"added_tokens"`
	Normalizer   json.RawMessage `json:"normalizer"`
	PreTokenizer json.RawMessage `json:"pre_tokenizer"`
	Post         json.RawMessage `json:"post_processor"`
	Model        struct {
		Type         string            `json:"type"`
		Vocab        json.RawMessage   `json:"vocab"`
		Merges       []json.RawMessage `json:"merges"`
		ByteFallback bool              `json:"byte_fallback"`
		Unknown      *string           `json:"unk_token"`
	} `json:"model"`

	ids map[string]int
}

// vocabulary is a tokenizer as GGUF has it, one entry an id.
type vocabulary struct {
	tokens []string
	types  []int32
	merges []string
}

// tokenizerFields returns the metadata of the tokenizer in src, for a model whose
// embedding has so many rows.
func tokenizerFields(src *Folder, c *hfConfig, rows int) ([]GGUFField, error) {
	raw, err := src.Read("tokenizer.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(src.Dir, "there is no tokenizer.json, which a GGUF file holds too; copy it from the model that this one was made of")
	} else if err != nil {
		return nil, err
	}
	t := &hfTokenizer{}
	if err := json.Unmarshal(raw, t); err != nil {
		return nil, malformed("tokenizer.json", "%v", err)
	}
	if t.Model.Type != "BPE" {
		return nil, fmt.Errorf("checkpoint: %s: a tokenizer of the %q kind is not written to GGUF (known: BPE)", src.Dir, t.Model.Type)
	}
	v, err := t.vocabulary(rows)
	if err != nil {
		return nil, err
	}
	fields := []GGUFField{}
	add := func(key string, value any) { fields = append(fields, GGUFField{"tokenizer.ggml." + key, value}) }
	if t.Model.ByteFallback {
		add("model", "llama")
		add("pre", "default")
		add("scores", v.scores())
		add("add_space_prefix", strings.Contains(string(t.Normalizer), `"Prepend"`) || strings.Contains(string(t.PreTokenizer), `"Metaspace"`))
	} else {
		pre, err := preTokenizerOf(t.PreTokenizer)
		if err != nil {
			return nil, fmt.Errorf("checkpoint: %s: tokenizer.json: %w", src.Dir, err)
		}
		add("model", "gpt2")
		add("pre", pre)
		add("merges", v.merges)
	}
	add("tokens", v.tokens)
	add("token_type", v.types)
	special, err := t.specialFields(src, c)
	return append(fields, special...), err
}

// vocabulary brings the tokens into the order of their ids and fills holes.
func (t *hfTokenizer) vocabulary(rows int) (*vocabulary, error) {
	if err := json.Unmarshal(t.Model.Vocab, &t.ids); err != nil {
		return nil, malformed("tokenizer.json", "model: vocab: %v", err)
	}
	v := &vocabulary{make([]string, rows), slices.Repeat([]int32{tokenUnused}, rows), nil}
	set := func(token string, id int, kind int32) error {
		if id < 0 || id >= rows {
			return malformed("tokenizer.json", "token %.60q has the id %d, the embedding has %d rows; they belong to different models", token, id, rows)
		}
		v.tokens[id], v.types[id] = token, kind
		return nil
	}
	for token, id := range t.ids {
		kind := int32(tokenNormal)
		if t.Model.ByteFallback && len(token) == 6 && strings.HasPrefix(token, "<0x") {
			kind = tokenByte
		}
		if err := set(token, id, kind); err != nil {
			return nil, err
		}
	}
	for _, a := range t.Added {
		kind := int32(tokenUser)
		if a.Special {
			kind = tokenControl
		}
		if t.Model.ByteFallback && t.Model.Unknown != nil && *t.Model.Unknown == a.Content {
			kind = tokenUnknown
		}
		id := a.ID
		if in, ok := t.ids[a.Content]; ok {
			id = in // the vocabulary's word counts, as for Hugging Face
		}
		if err := set(a.Content, id, kind); err != nil {
			return nil, err
		}
		t.ids[a.Content] = id
	}
	for id, token := range v.tokens {
		if token == "" && v.types[id] == tokenUnused {
			v.tokens[id] = fmt.Sprintf("[PAD%d]", id)
		}
	}
	for i, raw := range t.Model.Merges { // "a b", or ["a", "b"] in newer files
		var pair []string
		var text string
		if json.Unmarshal(raw, &text) != nil {
			if json.Unmarshal(raw, &pair) != nil || len(pair) != 2 {
				return nil, malformed("tokenizer.json", "model: merge %d is %.60s, want a pair of tokens", i, raw)
			}
			text = pair[0] + " " + pair[1]
		}
		v.merges = append(v.merges, text)
	}
	return v, nil
}

// scores orders pieces by the first merge that makes them.
func (v *vocabulary) scores() []float32 {
	rank := make(map[string]int, len(v.merges))
	for i, m := range v.merges {
		made := strings.ReplaceAll(m, " ", "")
		if _, known := rank[made]; !known {
			rank[made] = i
		}
	}
	scores := make([]float32, len(v.tokens))
	for id, token := range v.tokens {
		if v.types[id] != tokenNormal {
			continue
		}
		if i, ok := rank[token]; ok {
			scores[id] = -float32(i)
		} else {
			scores[id] = -float32(len(v.merges) + id)
		}
	}
	return scores
}

// stage is a pre-tokenizer reduced to what it does.
type stage struct {
	Type       string  `json:"type"`
	Stages     []stage `json:"pretokenizers"`
	Prefix     bool    `json:"add_prefix_space"`
	Regex      *bool   `json:"use_regex"`
	Pattern    *struct{ Regex, String *string }
	Behavior   string `json:"behavior"`
	Invert     bool   `json:"invert"`
	Individual bool   `json:"individual_digits"`
}

// String describes the stages in one line, the same for the same work.
func (s stage) String() string {
	switch s.Type {
	case "Sequence":
		parts := make([]string, len(s.Stages))
		for i, p := range s.Stages {
			parts[i] = p.String()
		}
		return strings.Join(parts, ", then ")
	case "ByteLevel":
		return fmt.Sprintf("ByteLevel(prefix=%v, regex=%v)", s.Prefix, s.Regex == nil || *s.Regex)
	case "Digits":
		return fmt.Sprintf("Digits(individual=%v)", s.Individual)
	case "Split":
		if s.Pattern != nil && s.Pattern.Regex != nil {
			return fmt.Sprintf("Split(%s, %s, %v)", *s.Pattern.Regex, s.Behavior, s.Invert)
		}
	}
	return cmp.Or(s.Type, "none")
}

// preTokenizerOf returns the name under which llama.cpp knows a pre_tokenizer.
func preTokenizerOf(raw json.RawMessage) (string, error) {
	var s stage
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", &kinded{fmt.Sprintf("pre_tokenizer: %v", err), ErrFormat}
	}
	for _, p := range preTokenizers {
		known, err := json.Marshal(object{"type": "Sequence", "pretokenizers": p.stages})
		if err != nil {
			return "", err
		}
		var k stage
		if err := json.Unmarshal(known, &k); err != nil {
			return "", err
		}
		if k.String() == s.String() {
			return p.names[0], nil
		}
	}
	var names []string
	for _, p := range preTokenizers {
		names = append(names, p.names[0])
	}
	return "", fmt.Errorf("the pre_tokenizer %s is none that is written to GGUF (known: those of %s)", s, strings.Join(names, ", "))
}

// specialFields returns the ids of special tokens, what is put around a text, and the
// chat template.
func (t *hfTokenizer) specialFields(src *Folder, c *hfConfig) ([]GGUFField, error) {
	config := map[string]json.RawMessage{}
	if raw, err := src.Read("tokenizer_config.json"); err == nil {
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, malformed("tokenizer_config.json", "%v", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var fields []GGUFField
	first, last := framed(t.Post)
	for _, s := range []struct {
		key, token string
		id         json.RawMessage
		framing    int // what is put around a text is bos and eos, whatever else is said
	}{{"bos", "bos_token", c.BOS, first}, {"eos", "eos_token", c.EOS, last}, {"unknown", "unk_token", nil, none}, {"padding", "pad_token", c.PAD, none}} {
		id, ok := s.framing, s.framing != none
		if !ok {
			id, ok = t.tokenID(config[s.token], s.id)
		}
		if ok {
			fields = append(fields, GGUFField{"tokenizer.ggml." + s.key + "_token_id", uint32(id)})
		}
	}
	fields = append(fields, GGUFField{"tokenizer.ggml.add_bos_token", first != none}, GGUFField{"tokenizer.ggml.add_eos_token", last != none})
	template, err := src.Read("chat_template.jinja")
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		var s string
		if json.Unmarshal(config["chat_template"], &s) != nil {
			return fields, nil
		}
		template = []byte(s)
	}
	if len(template) > 0 {
		fields = append(fields, GGUFField{"tokenizer.chat_template", string(template)})
	}
	return fields, nil
}

// tokenID finds a special token: by name as tokenizer_config.json has it, a string or
// an object, or by config.json's id or first id.
func (t *hfTokenizer) tokenID(name, id json.RawMessage) (int, bool) {
	var s string
	var o struct{ Content string }
	if json.Unmarshal(name, &s) != nil && json.Unmarshal(name, &o) == nil {
		s = o.Content
	}
	if n, ok := t.ids[s]; ok && s != "" {
		return n, true
	}
	var n *int
	var list []int
	if json.Unmarshal(id, &n) == nil && n != nil {
		return *n, *n >= 0
	}
	if json.Unmarshal(id, &list) == nil && len(list) > 0 {
		return list[0], list[0] >= 0
	}
	return 0, false
}

// none stands for no token.
const none = -1

// framed returns the tokens that a post_processor puts before and behind a text.
func framed(raw json.RawMessage) (first, last int) {
	var p struct {
		Processors []json.RawMessage
		Single     []struct{ SpecialToken *struct{ ID string } }
		Special    map[string]struct{ IDs []int } `json:"special_tokens"`
	}
	first, last = none, none
	if json.Unmarshal(raw, &p) != nil {
		return first, last
	}
	for _, inner := range p.Processors {
		if f, l := framed(inner); f != none || l != none {
			first, last = f, l
		}
	}
	token := func(i int) int {
		if piece := p.Single[i].SpecialToken; piece != nil && len(p.Special[piece.ID].IDs) == 1 {
			return p.Special[piece.ID].IDs[0]
		}
		return none
	}
	if n := len(p.Single); n > 1 {
		first, last = token(0), token(n-1)
	}
	return first, last
}
