package cli

import (
	"fmt"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/model"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// told is how a classifier does on one file or folder of samples.
type told struct {
	Name     string  `json:"name"`
	Samples  int     `json:"samples"`
	Loss     float64 `json:"loss"` // nats a sample
	Accuracy float64 `json:"accuracy"`
}

// classes measures a classifier on samples with labels.
func (v *evalVerb) classes(a *app) error {
	if len(v.Text) > 0 || len(v.Task) > 0 {
		return usagef("--data measures a classifier, --text and --task a language model; name one kind")
	}
	folder, err := openModel(v.Model)
	if err != nil {
		return err
	}
	defer folder.Close()
	c, err := classifies(folder, tuning.Recipe{})
	switch {
	case err != nil:
		return err
	case c == nil:
		return usagef("--data measures a classifier, which %s is not; measure a language model with --text or --task", v.Model)
	}
	c.seqLen = c.config.MaxPositions
	if v.Seq > c.seqLen {
		return usagef("--seq %d is longer than the model's %d positions", v.Seq, c.seqLen)
	} else if v.Seq > 0 {
		c.seqLen = v.Seq
	}
	m, err := v.classifier(folder)
	if err != nil {
		return err
	}
	results := []told{}
	for _, name := range v.Data {
		s := &data.Samples{}
		if err := c.add(s, name); err != nil {
			return err
		}
		const batch = 16
		loss, accuracy, err := eval.Classes(a.ctx, m, s, batch)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		results = append(results, told{name, s.Len(), loss.Loss, accuracy})
	}
	if a.JSON {
		return a.printJSON(map[string]any{"model": v.Model, "adapter": v.Adapter, "samples": results})
	}
	var rows [][]string
	for _, r := range results {
		rows = append(rows, []string{r.Name, fmt.Sprint(r.Samples), fmt.Sprintf("%.4f", r.Loss), percent(r.Accuracy)})
	}
	table(a.out, []string{"data", " samples", " loss", " accuracy"}, rows)
	return nil
}

// classifier loads the model, and its adapter where one is named.
func (v *evalVerb) classifier(folder *checkpoint.Folder) (model.Classifier, error) {
	m, err := model.LoadClassifier(folder.Config, folder, model.LoadOptions{Keep: v.Adapter == ""})
	if err != nil || v.Adapter == "" {
		return m, err
	}
	if _, err := adapt.Load(v.Adapter, m); err != nil {
		return nil, badInput{err}
	}
	return m, nil
}
