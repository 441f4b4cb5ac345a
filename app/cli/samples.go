package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/model"
	"tare/lab/tuning"
)

// heldEvery is how the samples for measuring are taken where no file is named for them:
// every so many-th, since files and folders are often sorted by class.
const heldEvery = 20

// classes reads the samples that a classifier learns from: texts with labels, or folders
// of images.
type classes struct {
	folder *checkpoint.Folder
	config *model.Config
	seqLen int
}

// classifies returns what reads the samples of the model in a folder; nil where it is no
// classifier.
func classifies(folder *checkpoint.Folder, r tuning.Recipe) (*classes, error) {
	if folder.Config == nil {
		return nil, nil // loading says so
	}
	c, err := model.ParseConfig(folder.Config)
	if err != nil || !c.Classifies() {
		return nil, err
	}
	return &classes{folder, c, r.SeqLen}, nil
}

// learn reads --data and --valid.
func (c *classes) learn(a *app, names []string, valid string, r tuning.Recipe) (tuning.Data, error) {
	all := &data.Samples{}
	for _, name := range names {
		if err := c.add(all, name); err != nil {
			return tuning.Data{}, err
		}
	}
	held := &data.Samples{}
	if valid != "" {
		if err := c.add(held, valid); err != nil {
			return tuning.Data{}, err
		}
	} else if all.Len() >= heldEvery {
		all, held = all.HoldOut(heldEvery)
		a.remark("Every %dth sample is held out for measuring; name a file with --valid to choose them.", heldEvery)
	}
	return tuning.SampleData(all, held, r, a.Seed)
}

// add appends a file of texts, or a folder of images, to the samples.
func (c *classes) add(to *data.Samples, name string) error {
	if c.config.Image != nil {
		return c.addImages(to, name)
	}
	return c.addTexts(to, name)
}

// addTexts appends the records of a file; texts longer than seq_len keep their beginning
// and the token that ends them.
func (c *classes) addTexts(to *data.Samples, name string) error {
	tok, err := readTokenizer("tune", c.folder)
	if err != nil {
		return err
	}
	if err := checkVocabulary(c.folder.Dir, tok, c.config); err != nil {
		return err
	}
	records, err := data.ReadRecords(name)
	if err != nil {
		return err
	}
	for i, r := range records {
		if r.Label == "" || r.Text == "" {
			return badInput{fmt.Errorf("%s: record %d has no text with a label, which a classifier learns from: {\"text\": …, \"label\": …}", name, i+1)}
		}
		label, err := c.label(r.Label)
		if err != nil {
			return badInput{fmt.Errorf("%s: record %d: %w", name, i+1, err)}
		}
		ids := tok.Encode(r.Text)
		if n := len(ids); n > c.seqLen {
			ids = append(ids[:c.seqLen-1:c.seqLen-1], ids[n-1])
		}
		to.Tokens, to.Labels = append(to.Tokens, ids), append(to.Labels, label)
	}
	return nil
}

// label returns the class of that name, or number.
func (c *classes) label(name string) (int32, error) {
	names := c.config.LabelNames()
	if i := slices.Index(names, name); i >= 0 {
		return int32(i), nil
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < c.config.Labels {
		return int32(i), nil
	}
	return 0, fmt.Errorf("the label %q is none of the model's %d classes: %s, or 0 to %d", name, c.config.Labels, strings.Join(names, ", "), c.config.Labels-1)
}

// addImages appends the images of a folder whose subfolders are classes, by the model's
// names or numbers of them or, where it has other names, in the order of the alphabet.
func (c *classes) addImages(to *data.Samples, dir string) error {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return usagef("%s: the model tells images apart; name a folder with a folder of images for each class", dir)
	}
	shape := c.config.Image
	if shape.Channels != 1 && shape.Channels != 3 {
		return fmt.Errorf("%s takes images of %d channels, and files have 1 or 3: %w", c.folder.Dir, shape.Channels, model.ErrConfig)
	}
	images, names, err := data.ReadImages(dir, data.ImageOptions{Rows: shape.Size, Cols: shape.Size, Color: shape.Channels == 3})
	if err != nil {
		return err
	}
	numbers := make([]int32, len(names))
	known := 0
	for i, name := range names {
		if numbers[i], err = c.label(name); err == nil {
			known++
		}
	}
	switch {
	case known == 0 && len(names) == c.config.Labels:
		for i := range numbers {
			numbers[i] = int32(i)
		}
	case known < len(names):
		return badInput{fmt.Errorf("%s has the classes %s; the model has %d: %s", dir, strings.Join(names, ", "), c.config.Labels, strings.Join(c.config.LabelNames(), ", "))}
	}
	for _, l := range images.Labels {
		to.Labels = append(to.Labels, numbers[l])
	}
	at := len(to.Pixels)
	to.Pixels = append(to.Pixels, images.Pixels...)
	return c.normalize(to.Pixels[at:])
}

// normalize brings pixels from 0 … 1 to what the model was trained on: less the mean,
// over the deviation of each channel that preprocessor_config.json gives, 0.5 and 0.5
// where it gives none.
func (c *classes) normalize(pixels []float32) error {
	var p struct {
		Mean []float32 `json:"image_mean"`
		Std  []float32 `json:"image_std"`
	}
	raw, err := c.folder.Read("preprocessor_config.json")
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return badInput{fmt.Errorf("%s: preprocessor_config.json: %w", c.folder.Dir, err)}
	}
	shape := c.config.Image
	if len(p.Mean) != shape.Channels || len(p.Std) != shape.Channels || slices.Contains(p.Std, 0) {
		p.Mean, p.Std = slices.Repeat([]float32{0.5}, shape.Channels), slices.Repeat([]float32{0.5}, shape.Channels)
	}
	plane := shape.Size * shape.Size
	for i := range pixels {
		channel := i / plane % shape.Channels
		pixels[i] = (pixels[i] - p.Mean[channel]) / p.Std[channel]
	}
	return nil
}
