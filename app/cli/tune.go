package cli

import (
	"fmt"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// tune fine-tunes a model, whole or through an adapter.
type tune struct {
	Model     string     `arg:"" optional:"" help:"A model folder, a .safetensors or .gguf file, or bundled."`
	File      recipeFile `name:"recipe" placeholder:"FILE" help:"YAML file of these flags, as key: value with underscores; model and all others."`
	Data      []string   `placeholder:"FILE" help:"Text, or JSON lines of prompts and completions; or bundled:opticks, bundled:arithmetic, bundled:source. For a classifier: records of text and label (CSV, JSON lines), or a folder with a folder of images for each class."`
	Valid     string     `placeholder:"FILE" help:"Held-out data; without it the last 5 % of the data."`
	Out       string     `placeholder:"DIR" help:"Folder for the adapter, or for the model when it is full or --merge."`
	Merge     bool       `help:"Write the whole model with the adapter folded in, without the heads and channels that it removed."`
	DType     string     `name:"dtype" default:"bf16" enum:"f32,bf16,f16" help:"How a whole model's weights are stored: f32, bf16, f16."`
	Resume    bool       `help:"Go on with the interrupted run of this --out."`
	Overwrite bool       `help:"Replace an existing output."`

	tuning.Recipe `group:"Tuning"`
}

// Help shows examples.
func (*tune) Help() string {
	return `Prompts have no loss: of JSON lines only the completions are learnt. A checkpoint that tells classes of texts or images learns from labels, and its accuracy is reported; its head trains with any method. With --ema the evaluations and what is written are of the averaged weights. Ctrl-C saves the run's state beside --out; the same command with --resume goes on to the same bits.

Examples:
  tare tune bundled --data bundled:opticks --out opticks-lora
  tare tune path/to/model --data train.jsonl --method paca -o rank=16 --lr 0.0005 --out my-adapter
  tare tune path/to/model --data book.txt --method full --dtype bf16 --out my-model
  tare tune path/to/model --data book.txt --method full --storage bf16-master --ema 0.999 --out my-model
  tare tune path/to/model --data documents.jsonl --pack --batch 4 --seq-len 512 --out my-adapter
  tare tune path/to/bert-classifier --data mails.csv --out my-adapter
  tare tune path/to/model --data book.txt --method atp -o keep=0.6 --merge --out my-smaller-model
  tare tune --recipe tune.yaml --steps 500`
}

// tuned is the result as JSON.
type tuned struct {
	Model     string              `json:"model"`
	Out       string              `json:"out"`
	Method    string              `json:"method"`
	Trainable int64               `json:"trainable"`
	Steps     int                 `json:"steps"`
	Tokens    int64               `json:"tokens"`
	Seconds   float64             `json:"seconds"`
	Evals     []tuning.Evaluation `json:"evals"`
	Peak      grad.Peak           `json:"peak_bytes"`
}

// Run implements the verb.
func (v *tune) Run(a *app) error {
	name, err := v.File.text(v.Model, "model")
	if err != nil {
		return err
	}
	switch {
	case name == "":
		return usagef("name a model: tare tune MODEL --data FILE --out DIR")
	case len(v.Data) == 0:
		return usagef("name what to learn from with --data")
	case v.Out == "":
		return usagef("name the output folder with --out")
	case v.Merge && v.Base == tuning.BaseQ4:
		return usagef("--merge over a 4-bit base would write rounded weights; write the adapter and put it on the original model")
	}
	if err := freshOutput(v.Out, v.Overwrite); err != nil {
		return err
	}
	r := v.Recipe
	if err := r.Validate(); err != nil {
		return err
	}
	folder, err := openModel(name)
	if err != nil {
		return err
	}
	defer folder.Close()
	d, err := v.learn(a, folder)
	if err != nil {
		return err
	}
	run, err := tuning.New(r, folder, d, a.Seed)
	if err != nil {
		return err
	}
	a.remark("%s trains %s of %s parameters.", r.Method, countText(run.Trainable), countText(run.Total()))
	state := stateFile(v.Out)
	if err := a.trainRun(run, "tune", state, v.Resume); err != nil {
		return err
	}
	if run.Adapter != nil && !v.Merge {
		err = run.Adapter.Save(v.Out, name)
	} else {
		err = v.saveModel(run, folder)
	}
	if err != nil {
		return err
	}
	if err := finishRun(state); err != nil {
		return err
	}
	return v.report(a, tuned{name, v.Out, r.Method, run.Trainable, run.Loop.Step, run.Tokens, run.Seconds, run.Evals, run.Ledger.Peak()})
}

// learn reads what the model in the folder learns from: text, or samples with labels
// where it is a classifier.
func (v *tune) learn(a *app, folder *checkpoint.Folder) (tuning.Data, error) {
	c, err := classifies(folder, v.Recipe)
	if err != nil {
		return tuning.Data{}, err
	}
	if c != nil {
		return c.learn(a, v.Data, v.Valid, v.Recipe)
	}
	l, err := a.readLearn(v.Data, v.Valid, v.Pack)
	if err != nil {
		return tuning.Data{}, err
	}
	tok, err := readTokenizer("tune", folder)
	if err != nil {
		return tuning.Data{}, err
	}
	if folder.Config != nil {
		if info, err := model.ParseConfig(folder.Config); err == nil { // else loading says so
			if err := checkVocabulary(folder.Dir, tok, info); err != nil {
				return tuning.Data{}, err
			}
		}
	}
	return l.prepare(tok, v.Recipe, a.Seed)
}

// saveModel writes the whole model, smaller where the method has removed heads and
// channels.
func (v *tune) saveModel(run *tuning.Run, src *checkpoint.Folder) error {
	if run.Adapter != nil {
		if _, removes := run.Adapter.Options.(adapt.Remover); removes {
			if err := run.Adapter.Shrink(run.Net()); err != nil {
				return err
			}
		}
	}
	dtype, err := tensor.ParseDType(v.DType)
	if err != nil {
		return err
	}
	return tuning.SaveModel(v.Out, run.Net(), dtype, src, nil, v.Overwrite)
}

func (v *tune) report(a *app, t tuned) error {
	if a.JSON {
		return a.printJSON(t)
	}
	var before, after tuning.Evaluation
	if n := len(t.Evals); n > 0 {
		before, after = t.Evals[0], t.Evals[n-1]
	}
	head := []string{"method", " trainable", " steps", " loss before", " after"}
	row := []string{t.Method, countText(t.Trainable), fmt.Sprint(t.Steps), fmt.Sprintf("%.4f", before.Loss), fmt.Sprintf("%.4f", after.Loss)}
	if before.Accuracy != nil {
		head = append(head, " accuracy before", " after")
		row = append(row, percent(*before.Accuracy), percent(*after.Accuracy))
	}
	table(a.out, append(head, " seconds", " peak memory"), [][]string{append(row, fmt.Sprintf("%.1f", t.Seconds), bytesText(t.Peak.Total))})
	fmt.Fprintf(a.out, "written to %s\n", t.Out)
	return nil
}
