package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
)

// Bert is the encoder of BERT and RoBERTa: learned positions, segments, a LayerNorm
// after each half of a block, attention in both directions. (Devlin et al. 2018,
// arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692.)
type Bert struct {
	stack
	Words, Positions, Types *nn.Embedding
	EmbedNorm               *nn.LayerNorm
	Layers                  []*EncoderBlock
}

// BertMasked is a Bert that fills in masked tokens.
type BertMasked struct {
	Bert
	Transform *nn.Linear
	Norm      *nn.LayerNorm
	Head      *nn.Linear // shares Words' table when embeddings are tied

	act func(*grad.Tape, *grad.Value) *grad.Value
}

// BertClassifier is a Bert that tells classes of texts apart by their first token.
type BertClassifier struct {
	Bert
	Pooler *nn.Linear
	Head   *nn.Linear
}

func bertConfig(c *Config) {
	c.HiddenAct, c.NormEps, c.TieEmbeddings, c.MaxPositions, c.learned = "gelu", 1e-12, true, 512, true
	c.read("hidden_act", &c.HiddenAct)
	c.read("layer_norm_eps", &c.NormEps)
	c.read("tie_word_embeddings", &c.TieEmbeddings)
	c.read("max_position_embeddings", &c.MaxPositions)
	c.readLabels()
	kind := "absolute"
	if c.read("position_embedding_type", &kind); kind != "absolute" {
		c.badKeys = append(c.badKeys, fmt.Sprintf("position_embedding_type = %q (known: absolute)", kind))
	}
}

// robertaConfig: positions are counted from behind the padding token's id.
func robertaConfig(c *Config) {
	bertConfig(c)
	pad := 1
	if c.read("pad_token_id", &pad); pad < 0 || pad > 1<<24 {
		c.badKeys = append(c.badKeys, fmt.Sprintf("pad_token_id = %d (want 0 to %d)", pad, 1<<24))
	}
	c.positionOffset = pad + 1
	c.MaxPositions -= c.positionOffset
}

// bertName is where the encoder's names begin.
func bertName(c *Config) string { return c.ModelType + "." }

func buildBert(c *Config, b *builder) Bert {
	var m Bert
	d, kinds := c.HiddenSize, 2
	c.read("type_vocab_size", &kinds)
	at := bertName(c) + "embeddings."
	m.Words = b.embedding(at+"word_embeddings", c.VocabSize, d)
	m.Positions = b.embedding(at+"position_embeddings", c.positionOffset+c.MaxPositions, d)
	m.Types = b.embedding(at+"token_type_embeddings", kinds, d)
	m.EmbedNorm = b.layerNorm(at+"LayerNorm", d)
	for i := range c.Layers {
		at, size := fmt.Sprintf("%sencoder.layer.%d.", bertName(c), i), c.LayerSize(i)
		q := size.Heads * c.HeadDim
		l := &EncoderBlock{heads: c.bidirectional(i), act: activations[c.HiddenAct]}
		l.Q = b.layer(at+"attention.self.query", q, d, true)
		l.K = b.layer(at+"attention.self.key", q, d, true)
		l.V = b.layer(at+"attention.self.value", q, d, true)
		l.O = b.layer(at+"attention.output.dense", d, q, true)
		l.AttentionNorm = b.layerNorm(at+"attention.output.LayerNorm", d)
		l.Up = b.layer(at+"intermediate.dense", size.Channels, d, true)
		l.Down = b.layer(at+"output.dense", d, size.Channels, true)
		l.MLPNorm = b.layerNorm(at+"output.LayerNorm", d)
		m.Layers = append(m.Layers, l)
		b.block(l)
	}
	m.stack = b.stack
	return m
}

func newBert(c *Config, b *builder) Encoder {
	m := buildBert(c, b)
	return &m
}

func newBertMasked(c *Config, b *builder) MaskedLM {
	m := &BertMasked{Bert: buildBert(c, b)}
	d := c.HiddenSize
	var decoder, bias string
	if c.ModelType == "roberta" {
		m.act = (*grad.Tape).GELU
		m.Transform = b.layer("lm_head.dense", d, d, true)
		m.Norm = b.layerNorm("lm_head.layer_norm", d)
		decoder, bias = "lm_head.decoder", "lm_head.bias"
	} else {
		m.act = activations[c.HiddenAct]
		m.Transform = b.layer("cls.predictions.transform.dense", d, d, true)
		m.Norm = b.layerNorm("cls.predictions.transform.LayerNorm", d)
		decoder, bias = "cls.predictions.decoder", "cls.predictions.bias"
	}
	if c.TieEmbeddings {
		m.Head = &nn.Linear{Name: decoder, Weight: nn.Dense{P: m.Words.Table}}
	} else {
		m.Head = b.layer(decoder, c.VocabSize, d, false)
	}
	m.Head.Bias = b.param(bias, c.VocabSize)
	m.stack = b.stack
	return m
}

func newBertClassifier(c *Config, b *builder) Classifier {
	m := &BertClassifier{Bert: buildBert(c, b)}
	if c.ModelType == "roberta" {
		m.Pooler = b.layer("classifier.dense", c.HiddenSize, c.HiddenSize, true)
		m.Head = b.layer("classifier.out_proj", c.Labels, c.HiddenSize, true)
	} else {
		m.Pooler = b.layer("bert.pooler.dense", c.HiddenSize, c.HiddenSize, true)
		m.Head = b.layer("classifier", c.Labels, c.HiddenSize, true)
	}
	m.stack = b.stack
	return m
}

// Encode implements Encoder.
func (m *Bert) Encode(tp *grad.Tape, in Inputs) *grad.Value {
	types := in.Types
	if types == nil {
		types = make([]int32, len(in.Tokens))
	}
	x := tp.AddTo(m.Words.Apply(tp, in.Tokens), m.Types.Apply(tp, types))
	x = tp.AddTo(x, m.Positions.Apply(tp, positions(in.Seqs, m.Config.positionOffset)))
	return m.through(tp, m.EmbedNorm.Apply(tp, x), in.Seqs, nil)
}

// Logits implements MaskedLM.
func (m *BertMasked) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	return m.Head.Apply(tp, m.Norm.Apply(tp, m.act(tp, m.Transform.Apply(tp, x))))
}

// Classify implements Classifier.
func (m *BertClassifier) Classify(tp *grad.Tape, in Inputs) *grad.Value {
	x := firstRows(tp, m.Encode(tp, in), in.Seqs)
	return m.Head.Apply(tp, tp.Tanh(m.Pooler.Apply(tp, x)))
}
