package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/method/adapt"
	"tare/method/merge"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tare": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/script. Beside testscript's own commands there are
//
//	mkmodel DIR [seed=N] [nan] [notokenizer] [noconfig]
//	                          writes a llama of two layers with random weights
//	mkadapter MODEL DIR       writes a LoRA adapter of it that changes nothing yet
//	cut FILE N                takes N bytes off a file's end
//	exits CODE COMMAND …      runs a command and checks its exit code
//	json KEY[=VALUE] …        checks keys of the last output, as tensors.0.dtype=F32
//	numbers KEY N             checks that a list of the last output has N entries
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TARE_STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "bundle" {
				return bundle.Has(), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"mkmodel": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(makeModel(ts.MkAbs(args[0]), args[1:]))
			},
			"mkadapter": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(makeAdapter(ts.MkAbs(args[0]), ts.MkAbs(args[1])))
			},
			"cut": func(ts *testscript.TestScript, _ bool, args []string) {
				st, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				n, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				ts.Check(os.Truncate(ts.MkAbs(args[0]), st.Size()-n))
			},
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				var exit *exec.ExitError
				code := 0
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if fmt.Sprint(code) != args[0] {
					ts.Fatalf("exit code %d, want %s", code, args[0])
				}
			},
			"json": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, arg := range args {
					key, want, compare := strings.Cut(arg, "=")
					v, err := lookUp(ts.ReadFile("stdout"), key)
					ts.Check(err)
					if got := fmt.Sprint(v); compare && got != want {
						ts.Fatalf("%s is %s, want %s", key, got, want)
					}
				}
			},
			"numbers": func(ts *testscript.TestScript, _ bool, args []string) {
				v, err := lookUp(ts.ReadFile("stdout"), args[0])
				ts.Check(err)
				if list, ok := v.([]any); !ok || fmt.Sprint(len(list)) != args[1] {
					ts.Fatalf("%s has %d entries, want %s", args[0], len(list), args[1])
				}
			},
		},
	})
}

// lookUp returns the value at a path of keys and indices in a JSON document; "." is
// the document.
func lookUp(doc, path string) (any, error) {
	var v any
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		return nil, fmt.Errorf("the output is not one JSON document: %w", err)
	}
	for key := range strings.SplitSeq(strings.Trim(path, "."), ".") {
		if key == "" {
			return v, nil
		}
		switch x := v.(type) {
		case map[string]any:
			y, ok := x[key]
			if !ok {
				return nil, fmt.Errorf("%s: no key %q", path, key)
			}
			v = y
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(x) {
				return nil, fmt.Errorf("%s: no entry %q of %d", path, key, len(x))
			}
			v = x[i]
		default:
			return nil, fmt.Errorf("%s: %v has no keys", path, v)
		}
	}
	return v, nil
}

// tinyConfig is the shape of the test models.
func tinyConfig(vocab int) *model.Config {
	return &model.Config{ModelType: "llama", Architectures: []string{"LlamaForCausalLM"}, VocabSize: vocab, HiddenSize: 32, IntermediateSize: 64,
		Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 16, MaxPositions: 128, NormEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true, HiddenAct: "silu"}
}

const sampleText = "The rays of light, in falling upon transparent bodies, are refracted. Große Linsen: naïve 光.\n"

func makeModel(dir string, flags []string) error {
	tokenizer, err := text.Train([]string{strings.Repeat(sampleText, 4)}, text.TrainOptions{Vocab: 300, Special: []string{endOfText}})
	if err != nil {
		return err
	}
	tok, err := text.Parse(tokenizer)
	if err != nil {
		return err
	}
	var seed uint64 = 1
	has := map[string]bool{}
	for _, f := range flags {
		if value, ok := strings.CutPrefix(f, "seed="); ok {
			if seed, err = strconv.ParseUint(value, 10, 64); err != nil {
				return err
			}
		}
		has[f] = true
	}
	m, err := model.NewLlama(tinyConfig(tok.VocabSize()), seed)
	if err != nil {
		return err
	}
	if has["nan"] {
		m.Linears()[3].Weight.Params()[0].Value.F32()[5] = float32(math.NaN())
	}
	config, err := m.Config.JSON()
	if err != nil {
		return err
	}
	files := map[string][]byte{"config.json": config, "tokenizer.json": tokenizer}
	if has["notokenizer"] {
		delete(files, "tokenizer.json")
	}
	if has["noconfig"] {
		delete(files, "config.json")
	}
	return writeModel(dir, m, files)
}

func writeModel(dir string, m *model.Llama, files map[string][]byte) error {
	var specs []checkpoint.Spec
	entries := m.Export(tensor.F32)
	for _, e := range entries {
		specs = append(specs, checkpoint.Spec{Name: e.Name, DType: e.DType, Shape: e.Shape})
	}
	w, err := checkpoint.CreateFolder(dir, specs, checkpoint.FolderOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, e := range entries {
		t, err := e.Read()
		if err != nil {
			return err
		}
		if err := w.Write(t); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := w.File(name, data); err != nil {
			return err
		}
	}
	return w.Close()
}

func makeAdapter(modelDir, dir string) error {
	l, err := loadModel("test", modelDir, "")
	if err != nil {
		return err
	}
	defer l.Close()
	method, err := adapt.ByName("lora")
	if err != nil {
		return err
	}
	a, err := adapt.Attach(l.net, method, method.New(), []string{"q_proj", "v_proj"}, 1)
	if err != nil {
		return err
	}
	return a.Save(dir, modelDir)
}

func TestEveryVerbHasHelpWithAnExample(t *testing.T) {
	k, err := kong.New(new(verbs), helpWords())
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range k.Model.Children {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), []string{verb.Name, "--help"}, nil, &out, &errOut); code != exitDone {
			t.Errorf("%s --help ends with %d: %s", verb.Name, code, errOut.String())
		}
		_, examples, found := strings.Cut(out.String(), "Examples:")
		if !found || !strings.Contains(examples, "tare "+verb.Name) {
			t.Errorf("%s --help has no example", verb.Name)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{usagef("x"), exitUsage}, {fmt.Errorf("a: %w", adapt.ErrNoTarget), exitUsage}, {fmt.Errorf("a: %w", merge.ErrRecipe), exitUsage},
		{fmt.Errorf("a: %w", fs.ErrNotExist), exitBadInput}, {badInput{errors.New("x")}, exitBadInput}, {fmt.Errorf("a: %w", merge.ErrMismatch), exitBadInput},
		{fmt.Errorf("a: %w", checkpoint.ErrMissing), exitBadInput}, {errors.New("x"), exitFailed},
	} {
		if got := codeOf(c.err); got != c.code {
			t.Errorf("%v: code %d, want %d", c.err, got, c.code)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{
		{"short", 10, "short"}, {"a few words too many", 14, "a few words…"}, {"Große Übergrößenträger", 8, "Große…"}, {"unbreakable", 5, "unbr…"},
	} {
		if got := shorten(c.s, c.n); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.s, c.n, got, c.want)
		}
	}
}

func TestTensorNamesInParts(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		layer      int
	}{
		{"model.layers.7.self_attn.q_proj.weight", "q_proj", 7}, {"model.embed_tokens.weight", "embed_tokens", -1},
		{"model.layers.12.self_attn.k_proj.bias", "k_proj bias", 12}, {"w", "w", -1}, {"model.layers.0.mlp.up_proj.q4_codes", "q4_codes", 0},
	} {
		if k, l := kindOf(c.name), layerNumber(c.name); k != c.kind || l != c.layer {
			t.Errorf("%s: %s of layer %d, want %s of %d", c.name, k, l, c.kind, c.layer)
		}
	}
}
