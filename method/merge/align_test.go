package merge

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/tensor"
)

// putWords writes a model of one embedding, a row of one number for each word, and its
// tokenizer files.
func putWords(t *testing.T, dir, name, vocab, added, config string, rows ...float32) {
	t.Helper()
	put(t, dir, name, named("embed_tokens.weight", tensor.F32, rows, len(rows), 1))
	for file, text := range map[string]string{"tokenizer.json": `{"added_tokens":[` + added + `],"model":{"type":"WordLevel","vocab":` + vocab + `}}`, "tokenizer_config.json": config} {
		if err := os.WriteFile(filepath.Join(dir, name, file), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// By hand: words keep the base's numbers and new ones are put behind; a model that lacks
// one takes the base's row, else the only other's, else the mean of the others'.
func TestVocabulariesByHand(t *testing.T) {
	dir := t.TempDir()
	putWords(t, dir, "a", `{"x":0,"y":1}`, "", `{"added_tokens_decoder":{}}`, 10, 20)
	putWords(t, dir, "b", `{"y":0,"z":1,"u":2}`, `{"id":3,"content":"<e>","special":true}`, `{}`, 200, 300, 400, 500)
	putWords(t, dir, "c", `{"z":0,"x":1,"u":2}`, "", `{}`, 3000, 1000, 4000)
	const models = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}, {model: c, parameters: {weight: 1}}]\nmerge_method: linear\nparameters: {normalize: false}\n"
	for text, want := range map[string]map[string]float32{
		// a: 10 20; b and c: 200 for y, x by the mean of 10 and 1000, and so on.
		"tokenizer_source: union": {"x": 10 + 505 + 1000, "y": 20 + 200 + 110, "z": 1650 + 300 + 3000, "u": 2200 + 400 + 4000, "<e>": 3 * 500},
		// a is the base: what it has it lends.
		"base_model: a\ntokenizer_source: base": {"x": 10 + 10 + 1000, "y": 20 + 200 + 20},
		"tokenizer: {source: c, tokens: {x: {source: {kind: zero}}, u: {source: {kind: model_token, model: a, token_id: 1}, force: true}}}": {"z": 1650 + 300 + 3000, "x": 10 + 0 + 1000, "u": 60},
	} {
		f := merged(t, dir, models+text, RunOptions{})
		own, err := tokensOf(&input{name: "merged", Folder: f})
		if err != nil || len(own.ids) != len(want) {
			t.Fatalf("%s: tokens %v, %v", text, own.ids, err)
		}
		rows := values(t, f, "embed_tokens.weight")
		for word, sum := range want {
			if rows[own.ids[word]] != sum {
				t.Errorf("%s: %s has %g, want %g", text, word, rows[own.ids[word]], sum)
			}
		}
	}
	f := merged(t, dir, models+"tokenizer: {source: union, pad_to_multiple_of: 4}", RunOptions{})
	rows := values(t, f, "embed_tokens.weight")
	if len(rows) != 8 || rows[5] != rows[7] || rows[5] <= 0 {
		t.Errorf("padded to %v", rows)
	}
	data, err := f.Read("tokenizer_config.json")
	var config struct {
		Added map[string]struct{ Content string } `json:"added_tokens_decoder"`
	}
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil || config.Added["3"].Content != "<e>" && config.Added["4"].Content != "<e>" {
		t.Errorf("%s, %v", data, err)
	}
}

// Shared experts and embeddings of positions lie in layers or have no row for a token.
func TestWhichRowsAreTokens(t *testing.T) {
	for name, want := range map[string]bool{"model.embed_tokens.weight": true, "lm_head.weight": true, "lm_head.bias": true, "transformer.wte.weight": true,
		"shared.weight": true, "model.layers.0.mlp.shared_expert.up_proj.weight": false, "transformer.wpe.weight": false, "model.norm.weight": false} {
		if isVocabulary(name) != want {
			t.Errorf("%s has rows of tokens: %v", name, !want)
		}
	}
}

func TestVocabulariesThatDiffer(t *testing.T) {
	dir := t.TempDir()
	putWords(t, dir, "a", `{"x":0,"y":1}`, "", `{}`, 1, 2)
	putWords(t, dir, "b", `{"x":1,"y":0}`, "", `{}`, 1, 2)
	putWords(t, dir, "c", `{"x":0,"y":1,"z":2}`, "", `{}`, 1, 2, 3)
	putWords(t, dir, "d", `{"x":0}`, "", `{}`, 1, 2)
	putWords(t, dir, "broken", `{"x":0,`, "", `{}`, 1, 2)
	putWords(t, dir, "huge", `{"x":99999999999}`, "", `{}`, 1, 2)
	for other, want := range map[string]string{
		"b":      `number 0 is "x" in one and "y" in the other; add tokenizer_source`,
		"c":      `tensor "embed_tokens.weight" is [2 1] in a and [3 1] in c; the vocabularies differ: add tokenizer_source`,
		"broken": "model broken: tokenizer.json",
		"huge":   `token "x" has the number 99999999999`,
	} {
		_, err := Run(t.Context(), recipe(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: "+other+"}]"), filepath.Join(dir, "out"), RunOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", other, err, want)
		}
	}
	// Fewer tokens of the same numbers are only told.
	r, err := Run(t.Context(), recipe(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: d}]"), filepath.Join(dir, "out"), RunOptions{DryRun: true})
	if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "a has 2 tokens and d 1") {
		t.Errorf("%v, %v", r.Warnings, err)
	}
	put(t, dir, "bare", named("embed_tokens.weight", tensor.F32, []float32{1}, 1, 1))
	if _, err := Run(t.Context(), recipe(t, dir, "merge_method: linear\ntokenizer_source: bare\nmodels: [{model: a}, {model: bare}]"), filepath.Join(dir, "out"), RunOptions{}); !errors.Is(err, ErrMismatch) {
		t.Errorf("a tokenizer that is not there: %v", err)
	}
}

func TestChatTemplates(t *testing.T) {
	dir := t.TempDir()
	const one, two = "{{ messages[0]['content'] }} one", "{{ messages[0]['content'] }} two"
	for name, chat := range map[string]string{"a": one, "b": two, "c": two} {
		config, _ := json.Marshal(map[string]string{"chat_template": chat, "bos_token": "<s>"})
		putWords(t, dir, name, `{"x":0}`, "", string(config), 1)
	}
	const models = "merge_method: linear\nmodels: [{model: a}, {model: b}, {model: c}]\nchat_template: "
	template := func(text string) string {
		data, err := merged(t, dir, models+text, RunOptions{}).Read("tokenizer_config.json")
		var config map[string]string
		if err == nil {
			err = json.Unmarshal(data, &config)
		}
		if err != nil || config["bos_token"] != "<s>" {
			t.Fatalf("%s, %v", data, err)
		}
		return config["chat_template"]
	}
	if got := template("auto"); got != two {
		t.Errorf("auto took %q", got)
	}
	if got := template(`"{{ messages | length }} messages"`); got != "{{ messages | length }} messages" {
		t.Errorf("a template became %q", got)
	}
	for _, name := range []string{"chatml", "llama3", "alpaca", "mistral"} {
		if got := template(name); got != chatTemplates[name] {
			t.Errorf("%s became %q", name, got)
		}
	}
	for text, want := range map[string]string{"chatmel": `"chatmel" is neither auto`, `"{% for %}"`: "chat_template"} {
		_, err := Run(t.Context(), recipe(t, dir, models+text), filepath.Join(dir, "out"), RunOptions{})
		if !errors.Is(err, ErrRecipe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if left := leftovers(t, dir, "a", "b", "c"); !slices.Equal(left, nil) {
		t.Errorf("left behind: %v", left)
	}
}
