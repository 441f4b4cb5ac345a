package cli

import (
	"fmt"
	"strings"

	"tare/engine/data"
	"tare/engine/model"
)

// embed turns texts into vectors.
type embed struct {
	Model string   `arg:"" help:"Folder of an encoder, such as a BERT."`
	Text  []string `sep:"none" placeholder:"TEXT" help:"A text; give it again for more."`
	File  []string `sep:"none" placeholder:"FILE" help:"File with one text a line."`
}

// Help shows examples.
func (*embed) Help() string {
	return `A text's vector is the mean of its tokens' last hidden states, divided by its length: what sentence-transformers gives with mean pooling. The cosines of all pairs are printed; --json prints the vectors.

Examples:
  tare embed path/to/minilm --text "Light bends in glass." --text "Rays are refracted."
  tare embed path/to/minilm --file sentences.txt --json > vectors.json`
}

// embedded is one text as JSON.
type embedded struct {
	Text   string    `json:"text"`
	Tokens int       `json:"tokens"`
	Vector []float32 `json:"vector"`
}

// Run implements the verb.
func (v *embed) Run(a *app) error {
	texts, err := v.texts()
	if err != nil {
		return err
	}
	folder, err := openModel(v.Model)
	if err != nil {
		return err
	}
	defer folder.Close()
	if folder.Config == nil {
		return fmt.Errorf("%s has no config.json, which tells tare embed how the tensors make a model: %w", folder.Dir, model.ErrConfig)
	}
	tok, err := readTokenizer("embed", folder)
	if err != nil {
		return err
	}
	m, err := model.LoadEncoder(folder.Config, folder, model.LoadOptions{Keep: true})
	if err != nil {
		return err
	}
	if vocab := m.Info().VocabSize; tok.VocabSize() > vocab {
		return fmt.Errorf("%s: tokenizer.json has %d entries, the model's vocab_size is %d; they belong to different models: %w", folder.Dir, tok.VocabSize(), vocab, model.ErrConfig)
	}
	ids, out := make([][]int32, len(texts)), make([]embedded, len(texts))
	for i, text := range texts {
		ids[i] = tok.Encode(text)
		if n, most := len(ids[i]), m.Info().MaxPositions; n == 0 || n > most {
			return usagef("text %d has %d tokens, the model takes 1 to %d; split it", i+1, n, most)
		}
	}
	for i, vector := range model.Embed(m, ids) {
		out[i] = embedded{texts[i], len(ids[i]), vector}
	}
	if a.JSON {
		return a.printJSON(out)
	}
	printCosines(a, out)
	return nil
}

func (v *embed) texts() ([]string, error) {
	texts := v.Text
	for _, name := range v.File {
		s, err := data.ReadText(name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); line != "" {
				texts = append(texts, line)
			}
		}
	}
	if len(texts) == 0 {
		return nil, usagef("name what to embed with --text TEXT or --file FILE")
	}
	return texts, nil
}

// printCosines writes how alike the texts are.
func printCosines(a *app, texts []embedded) {
	header, rows := []string{"", "text", " tokens"}, make([][]string, len(texts))
	for i := range texts {
		header = append(header, fmt.Sprintf(" %d", i+1))
	}
	for i, t := range texts {
		rows[i] = []string{fmt.Sprint(i + 1), shorten(t.Text, 40), fmt.Sprint(t.Tokens)}
		for _, u := range texts {
			var cosine float64
			for k, x := range t.Vector {
				cosine += float64(x) * float64(u.Vector[k])
			}
			rows[i] = append(rows[i], fmt.Sprintf("%.3f", cosine))
		}
	}
	table(a.out, header, rows)
}
