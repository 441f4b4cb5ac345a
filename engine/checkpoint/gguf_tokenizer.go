package checkpoint

import (
	"fmt"
	"regexp"
	"slices"
	"unicode/utf8"
)

// The kinds of tokens in tokenizer.ggml.token_type.
const (
	tokenNormal  = 1
	tokenUnknown = 2
	tokenControl = 3
	tokenUser    = 4
	tokenUnused  = 5
	tokenByte    = 6
)

// The patterns by which byte-level tokenizers cut text into words.
const (
	gpt2Words  = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llamaWords = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwenWords  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

type object = map[string]any

// preTokenizer is one value of tokenizer.ggml.pre: a name for what tokenizer.json spells
// out.
type preTokenizer struct {
	names        []string // the first is written
	stages       []object
	ignoreMerges bool // a word that is a token is one, whatever the merges make of it
	bos          bool // text begins with the bos token unless the metadata says otherwise
	nfc          bool
}

var preTokenizers = []preTokenizer{
	{names: []string{"gpt-2", "phi-2", "gigachat", "mellum", "modern-bert", "olmo", "mpt", "jais", "trillion"}, stages: []object{byteLevel(true)}},
	{names: []string{"smollm", "codeshell", "exaone", "minerva-7b"}, stages: []object{{"type": "Digits", "individual_digits": true}, byteLevel(true)}},
	{names: []string{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"}, stages: []object{splitBy(llamaWords), byteLevel(false)}, ignoreMerges: true, bos: true},
	{names: []string{"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"}, stages: []object{splitBy(qwenWords), byteLevel(false)}, nfc: true},
	{names: []string{"default"}, stages: []object{splitBy(`[\p{P}\$\+<=>\^~\|]+`), splitBy(gpt2Words), splitBy(`\p{N}+`), splitBy(`[0-9][0-9][0-9]`), byteLevel(false)}},
}

func byteLevel(regex bool) object {
	return object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex}
}

func splitBy(pattern string) object {
	return object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false}
}

// tokenizer makes tokenizer.json of the metadata.
func (l *llamaGGUF) tokenizer() (object, error) {
	v, _ := l.Value("tokenizer.ggml.tokens")
	tokens, ok := v.([]string)
	if !ok {
		return nil, malformed(l.name, "the metadata has no tokenizer.ggml.tokens")
	}
	v, _ = l.Value("tokenizer.ggml.token_type")
	types, ok := v.([]int32)
	if !ok || len(types) != len(tokens) {
		types = slices.Repeat([]int32{tokenNormal}, len(tokens))
	}
	doc := object{"version": "1.0", "truncation": nil, "padding": nil}
	var err error
	model, _ := l.text("tokenizer.ggml.model")
	switch model {
	case "gpt2":
		err = l.byteLevelTokenizer(doc)
	case "llama":
		err = l.pieceTokenizer(doc, tokens, types)
	default:
		err = malformed(l.name, "tokenizer.ggml.model is %q, which is not read (known: gpt2, llama)", model)
	}
	if err != nil {
		return nil, err
	}
	vocab, added := map[string]int{}, []object{}
	for id, token := range tokens {
		if _, twice := vocab[token]; twice || types[id] == tokenUnused && fillers.MatchString(token) {
			continue
		}
		vocab[token] = id
		if kind := types[id]; kind == tokenControl || kind == tokenUser || kind == tokenUnknown {
			added = append(added, object{"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
				"normalized": false, "special": kind != tokenUser})
		}
	}
	doc["model"].(object)["vocab"] = vocab
	doc["added_tokens"] = added
	if post := l.frame(tokens); post != nil {
		doc["post_processor"] = post
	}
	return doc, nil
}

// fillers are names that stand where a vocabulary is padded to a round size.
var fillers = regexp.MustCompile(`^\[PAD\d+\]$`)

// byteLevelTokenizer fills in what a tokenizer of GPT-2's kind has.
func (l *llamaGGUF) byteLevelTokenizer(doc object) error {
	name, ok := l.text("tokenizer.ggml.pre")
	if !ok {
		name = "default"
	}
	at := slices.IndexFunc(preTokenizers, func(p preTokenizer) bool { return slices.Contains(p.names, name) })
	if at < 0 {
		var known []string
		for _, p := range preTokenizers {
			known = append(known, p.names...)
		}
		return malformed(l.name, "tokenizer.ggml.pre is %q, whose pattern is not known (known: %v)", name, known)
	}
	pre := preTokenizers[at]
	v, _ := l.Value("tokenizer.ggml.merges")
	merges, ok := v.([]string)
	if !ok {
		return malformed(l.name, "the metadata has no tokenizer.ggml.merges")
	}
	doc["normalizer"] = nil
	if pre.nfc {
		doc["normalizer"] = object{"type": "NFC"}
	}
	doc["pre_tokenizer"] = pre.stages[0]
	if len(pre.stages) > 1 {
		doc["pre_tokenizer"] = object{"type": "Sequence", "pretokenizers": pre.stages}
	}
	doc["post_processor"] = nil
	doc["decoder"] = byteLevel(true)
	doc["model"] = object{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.ignoreMerges, "merges": merges}
	return nil
}

// pieceTokenizer fills in what a tokenizer of Llama 2's kind has: a SentencePiece
// vocabulary of scored pieces, of which the best-scored pair that makes a piece is
// merged first.
func (l *llamaGGUF) pieceTokenizer(doc object, tokens []string, types []int32) error {
	v, _ := l.Value("tokenizer.ggml.scores")
	scores, ok := v.([]float32)
	if !ok || len(scores) != len(tokens) {
		return malformed(l.name, "the metadata has no tokenizer.ggml.scores for its %d tokens", len(tokens))
	}
	unknown := ""
	if id, ok := l.number("tokenizer.ggml.unknown_token_id"); ok && id < len(tokens) {
		unknown = tokens[id]
	}
	steps := []object{{"type": "Replace", "pattern": object{"String": " "}, "content": "▁"}}
	decoders := []object{{"type": "Replace", "pattern": object{"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}}
	if v, ok := l.Value("tokenizer.ggml.add_space_prefix"); !ok || v == true {
		steps = slices.Insert(steps, 0, object{"type": "Prepend", "prepend": "▁"})
		decoders = append(decoders, object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	doc["normalizer"] = object{"type": "Sequence", "normalizers": steps}
	doc["pre_tokenizer"] = nil
	doc["post_processor"] = nil
	doc["decoder"] = object{"type": "Sequence", "decoders": decoders}
	doc["model"] = object{"type": "BPE", "dropout": nil, "unk_token": unknown, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "merges": mergesOf(tokens, types, scores)}
	return nil
}

// longestPiece bounds the pieces that are taken apart, since the work grows with the
// square of their length; those of real vocabularies have 16 to 64 bytes.
const longestPiece = 256

// mergesOf returns every pair of pieces that makes a piece, the best score first.
func mergesOf(tokens []string, types []int32, scores []float32) [][2]string {
	ids := map[string]int{}
	for id, token := range tokens {
		if _, twice := ids[token]; !twice && types[id] != tokenControl && types[id] != tokenByte && types[id] != tokenUnknown {
			ids[token] = id
		}
	}
	type merge struct {
		pair        [2]string
		made        int
		left, right int
	}
	var all []merge
	for id, token := range tokens {
		if made, ok := ids[token]; !ok || made != id || types[id] == tokenUser || len(token) > longestPiece {
			continue
		}
		for at := range token {
			if at == 0 || !utf8.RuneStart(token[at]) {
				continue
			}
			left, okL := ids[token[:at]]
			right, okR := ids[token[at:]]
			if okL && okR {
				all = append(all, merge{[2]string{token[:at], token[at:]}, id, left, right})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b merge) int {
		switch {
		case scores[a.made] != scores[b.made]:
			if scores[a.made] > scores[b.made] {
				return -1
			}
			return 1
		case a.left != b.left:
			return a.left - b.left
		}
		return a.right - b.right
	})
	pairs := make([][2]string, len(all))
	for i, m := range all {
		pairs[i] = m.pair
	}
	return pairs
}

// frame returns the post_processor that puts bos and eos around a text, nil for none.
func (l *llamaGGUF) frame(tokens []string) any {
	model, _ := l.text("tokenizer.ggml.model")
	pre, _ := l.text("tokenizer.ggml.pre")
	first := model == "llama" || slices.ContainsFunc(preTokenizers, func(p preTokenizer) bool { return p.bos && slices.Contains(p.names, pre) })
	if v, ok := l.Value("tokenizer.ggml.add_bos_token"); ok {
		first = v == true
	}
	v, _ := l.Value("tokenizer.ggml.add_eos_token")
	last := v == true
	pieces := []object{{"Sequence": object{"id": "A", "type_id": 0}}}
	special := object{}
	token := func(key string) (object, bool) {
		id, ok := l.number("tokenizer.ggml." + key + "_token_id")
		if !ok || id >= len(tokens) {
			return nil, false
		}
		special[tokens[id]] = object{"id": tokens[id], "ids": []int{id}, "tokens": []string{tokens[id]}}
		return object{"SpecialToken": object{"id": tokens[id], "type_id": 0}}, true
	}
	if first {
		if piece, ok := token("bos"); ok {
			pieces = slices.Insert(pieces, 0, piece)
		}
	}
	if last {
		if piece, ok := token("eos"); ok {
			pieces = append(pieces, piece)
		}
	}
	if len(pieces) == 1 {
		return nil
	}
	pair := append(slices.Clone(pieces), object{"Sequence": object{"id": "B", "type_id": 1}})
	return object{"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": special}
}

// tokenizerConfig makes tokenizer_config.json, with the chat template.
func (l *llamaGGUF) tokenizerConfig() any {
	doc := object{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false}
	if template, ok := l.text("tokenizer.chat_template"); ok {
		doc["chat_template"] = template
	}
	if n, ok := l.number(l.arch + ".context_length"); ok {
		doc["model_max_length"] = n
	}
	v, _ := l.Value("tokenizer.ggml.tokens")
	tokens, ok := v.([]string)
	if !ok {
		return nil
	}
	for key, name := range map[string]string{"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"} {
		if id, ok := l.number(fmt.Sprintf("tokenizer.ggml.%s_token_id", key)); ok && id < len(tokens) {
			doc[name] = tokens[id]
		}
	}
	return doc
}
