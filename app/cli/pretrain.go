package cli

import (
	"fmt"
	"os"
	"time"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/lab/tuning"
)

// pretrain trains a fresh llama-shaped model.
type pretrain struct {
	File      recipeFile `name:"recipe" placeholder:"FILE" help:"YAML file of these flags, as key: value with underscores."`
	Out       string     `required:"" placeholder:"DIR" help:"Folder to write the model to."`
	Data      []string   `placeholder:"FILE" help:"Text or JSON-lines files, or bundled:source, bundled:opticks."`
	Valid     string     `placeholder:"FILE" help:"Held-out text; without it the last 5 % of the data."`
	Tokenizer string     `placeholder:"FILE" help:"tokenizer.json to use, or bundled; without it one of --vocab entries is trained on the data."`
	Vocab     int        `default:"2048" help:"Entries of a tokenizer trained on the data."`
	Config    string     `placeholder:"FILE" help:"config.json of the model; without it the shape flags make one."`
	Shape     shape      `embed:"" group:"Shape"`
	DType     string     `name:"dtype" default:"bf16" enum:"f32,bf16,f16" help:"How weights are stored: f32, bf16, f16."`
	Resume    bool       `help:"Go on with the interrupted run of this --out."`
	Overwrite bool       `help:"Replace an existing output folder."`

	tuning.Training `group:"Training"`
}

// shape is the size of a fresh model.
type shape struct {
	Layers    int `default:"6" help:"Transformer blocks."`
	Width     int `default:"192" help:"Width of the residual stream."`
	Heads     int `default:"6" help:"Query heads."`
	KVHeads   int `name:"kv-heads" default:"3" help:"Key-value heads."`
	MLP       int `name:"mlp" default:"512" help:"Width of the gated MLP."`
	Positions int `default:"512" help:"Longest sequence."`
}

// Help shows examples.
func (*pretrain) Help() string {
	return `Examples:
  tare pretrain --data book.txt --out mymodel --steps 2000 --lr 0.003
  tare pretrain --data documents.jsonl --pack --storage bf16-stochastic --out mymodel
  tare pretrain --recipe lab/bundle/pretrain.yaml --out mybase`
}

// pretrained is the result as JSON.
type pretrained struct {
	Out        string              `json:"out"`
	Parameters int64               `json:"parameters"`
	Steps      int                 `json:"steps"`
	Tokens     int64               `json:"tokens"`
	Seconds    float64             `json:"seconds"`
	Evals      []tuning.Evaluation `json:"evals"`
	Peak       grad.Peak           `json:"peak_bytes"`
}

// Run implements the verb.
func (v *pretrain) Run(a *app) error {
	if err := freshOutput(v.Out, v.Overwrite); err != nil {
		return err
	}
	l, err := a.readLearn(v.Data, v.Valid, v.Pack)
	if err != nil {
		return err
	}
	tokJSON, tok, err := v.tokenizer(a, l)
	if err != nil {
		return err
	}
	c, err := v.config(tok)
	if err != nil {
		return err
	}
	m, err := model.New(c, a.Seed)
	if err != nil {
		return usagef("%w", err)
	}
	r := tuning.Pretraining(v.Training)
	d, err := l.prepare(tok, r, a.Seed)
	if err != nil {
		return err
	}
	run, err := tuning.NewFrom(r, m, d, a.Seed)
	if err != nil {
		return err
	}
	a.remark("A model of %s parameters learns from %s of text.", countText(run.Trainable), bytesText(l.bytes()))
	state := stateFile(v.Out)
	began := time.Now()
	if err := a.trainRun(run, "pretrain", state, v.Resume); err != nil {
		return err
	}
	dtype, err := tensor.ParseDType(v.DType)
	if err != nil {
		return err
	}
	if err := tuning.SaveModel(v.Out, m, dtype, nil, map[string][]byte{"tokenizer.json": tokJSON}, v.Overwrite); err != nil {
		return err
	}
	if err := finishRun(state); err != nil {
		return err
	}
	res := pretrained{v.Out, run.Trainable, run.Loop.Step, run.Tokens, run.Seconds, run.Evals, run.Ledger.Peak()}
	if a.JSON {
		return a.printJSON(res)
	}
	e := run.Final()
	fmt.Fprintf(a.out, "%s: %s parameters, %d steps, %s tokens in %s, held-out loss %.4f%s\n", v.Out, countText(res.Parameters), res.Steps,
		countText(res.Tokens), time.Since(began).Round(time.Second), e.Loss, bitsText(e.BitsPerByte))
	return nil
}

// tokenizer reads the one that is named or trains one.
func (v *pretrain) tokenizer(a *app, l *learn) ([]byte, *text.Tokenizer, error) {
	texts := []string{l.train}
	for _, r := range l.trainRec {
		if r.Completion != "" {
			return nil, nil, usagef("pretraining learns from texts; tune on records with prompts instead")
		}
		texts = append(texts, r.Text)
	}
	var raw []byte
	var err error
	switch v.Tokenizer {
	case "":
		a.remark("Training a tokenizer of %d entries.", v.Vocab)
		raw, err = text.Train(texts, text.TrainOptions{Vocab: v.Vocab, Special: []string{endOfText}})
	case bundled:
		raw, err = bundle.Tokenizer()
	default:
		raw, err = os.ReadFile(v.Tokenizer)
	}
	if err != nil {
		return nil, nil, err
	}
	tok, err := text.Parse(raw)
	return raw, tok, err
}

const endOfText = "<|endoftext|>"

// config reads the one that is named or makes one of the shape.
func (v *pretrain) config(tok *text.Tokenizer) (*model.Config, error) {
	if v.Config != "" {
		raw, err := os.ReadFile(v.Config)
		if err != nil {
			return nil, err
		}
		c, err := model.ParseConfig(raw)
		if err != nil {
			return nil, err
		}
		if c.VocabSize < tok.VocabSize() {
			return nil, fmt.Errorf("%s: vocab_size is %d, the tokenizer has %d entries: %w", v.Config, c.VocabSize, tok.VocabSize(), model.ErrConfig)
		}
		return c, nil
	}
	s := v.Shape
	if s.Heads < 1 || s.Width%s.Heads != 0 {
		return nil, usagef("--width %d is not a multiple of --heads %d", s.Width, s.Heads)
	}
	c := &model.Config{
		ModelType: "llama", Architectures: []string{"LlamaForCausalLM"}, VocabSize: tok.VocabSize(), HiddenSize: s.Width,
		IntermediateSize: s.MLP, Layers: s.Layers, Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.Width / s.Heads,
		MaxPositions: s.Positions, NormEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true, HiddenAct: "silu",
	}
	if id, ok := tok.ID(endOfText); ok {
		c.BOS, c.EOS = &model.TokenID{int(id)}, &model.TokenID{int(id)}
	}
	return c, nil
}
