package generate_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/generate"
	"tare/engine/model"
)

// Every language model under the model package's testdata goes on greedily as it does in
// transformers, alone and beside a longer sequence. See parity/models.py.
func TestGreedyMatchesTransformers(t *testing.T) {
	dirs, err := filepath.Glob("../model/testdata/parity/*")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, dir := range dirs {
		f, err := checkpoint.Open(filepath.Join(dir, "golden.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, ok := f.Info("generated"); !ok {
			continue // not a language model
		}
		ran++
		ids := func(name string) (out []int32) {
			x, err := f.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range x.I64() {
				out = append(out, int32(id))
			}
			return out
		}
		src, err := checkpoint.OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		m, err := model.LoadCausal(src.Config, src, model.LoadOptions{Keep: true})
		if err != nil {
			t.Fatal(err)
		}
		want := ids("generated")
		got, err := generate.Run(context.Background(), m, [][]int32{ids("prompt"), ids("ids.1")}, generate.Options{MaxTokens: len(want)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got[0], want) {
			t.Errorf("%s: %v, transformers go on with %v", filepath.Base(dir), got[0], want)
		}
	}
	if ran == 0 {
		t.Error("no checkpoint has a golden continuation")
	}
}
