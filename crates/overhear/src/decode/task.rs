//! Decoding of one window at one temperature: `whisper/decoding.py::DecodingTask`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::beam::BeamSearchDecoder;
use super::boost::Match;
use super::filters::LogitFilters;
use super::greedy::GreedyDecoder;
use super::loops::Specials;
use super::rank::MaximumLikelihoodRanker;
use super::result::TokenProbability;
use super::row::{Next, Row, Rules};
use super::window::TokenDecoder;
use super::{BoostTrie, DecodingOptions, DecodingResult, Hypothesis, compression_ratio};
use crate::{Error, Language, Model, Result, TokenId, Tokenizer, python};

/// A decoding task with its options checked and resolved.
pub(crate) struct DecodingTask {
    pub(super) model: Model,
    language: Language,
    temperature: f32,
    /// Number of rows of text decoded in parallel.
    pub(super) n_group: usize,
    /// Number of finished hypotheses that ends beam search. `None`: no beam search.
    max_candidates: Option<usize>,
    ranker: MaximumLikelihoodRanker,
    seed: u64,
    /// Maximum number of tokens of a text.
    pub(super) max_tokens: usize,
    /// Prompt, start-of-transcript sequence and prefix.
    pub(super) initial_tokens: Vec<TokenId>,
    pub(super) sot_index: usize,
    pub(super) filters: LogitFilters,
    pub(super) boosts: Option<Arc<BoostTrie>>,
    pub(super) alternatives: usize,
    loop_guard: bool,
    /// Text that every row begins with, as if it had been sampled: see [`DecodingTask::resume`].
    pub(super) resumed: Row,
}

impl DecodingTask {
    /// Resolves `options`. `language` (detected if need be) and `boosts` replace the options of these names.
    ///
    /// # Errors
    /// [`Error::Option`] if options do not fit together or do not fit the model.
    pub(crate) fn new(
        model: &Model,
        language: Language,
        boosts: Option<Arc<BoostTrie>>,
        options: &DecodingOptions,
    ) -> Result<Self> {
        options.verify()?;
        let tokenizer = model.tokenizer();
        let n_ctx = model.dims().n_text_ctx;
        let sample_len = options
            .rules
            .sample_len
            .map_or(n_ctx / 2, NonZeroUsize::get);

        let mut sot_sequence = tokenizer.sot_sequence(language, options.task);
        let without_timestamps = options.rules.without_timestamps || !tokenizer.has_timestamps();
        if without_timestamps {
            sot_sequence.push(tokenizer.no_timestamps());
        }
        let mut initial_tokens = Vec::new();
        if !options.prompt.is_empty() {
            initial_tokens.push(tokenizer.sot_prev());
            initial_tokens
                .extend_from_slice(python::last(&options.prompt, (n_ctx / 2 - 1) as isize));
        }
        let sot_index = initial_tokens.len();
        initial_tokens.extend(sot_sequence);
        let max_prefix_len = (n_ctx / 2) as isize - sample_len as isize;
        initial_tokens.extend_from_slice(python::last(&options.prefix, max_prefix_len));
        if initial_tokens.len() > n_ctx {
            let reason = format!(
                "prompt and prefix are {} tokens, the model takes at most {n_ctx}",
                initial_tokens.len()
            );
            return Err(Error::Option {
                name: "prefix",
                reason,
            });
        }
        Ok(Self {
            model: model.clone(),
            language,
            temperature: options.temperature,
            n_group: options.n_group(),
            max_candidates: options.rules.beam_size.map(|_| options.max_candidates()),
            ranker: MaximumLikelihoodRanker {
                length_penalty: options.rules.length_penalty,
            },
            seed: options.rules.seed,
            // openai/whisper stops after sample_len tokens, or when prompt and text exceed the decoder's context.
            max_tokens: sample_len.min(n_ctx + 1 - initial_tokens.len()),
            initial_tokens,
            sot_index,
            filters: LogitFilters::new(tokenizer, options)?,
            boosts,
            alternatives: options.rules.alternatives,
            loop_guard: options.rules.loop_guard,
            resumed: Row::default(),
        })
    }

    /// Continues the text of `result` with any token but `forbidden`. `result` must be that of a task for the same window,
    /// whose options differ by no more than the temperature.
    pub(crate) fn resume(&mut self, result: &DecodingResult, forbidden: TokenId) {
        self.initial_tokens.extend_from_slice(&result.tokens);
        self.filters.forbid_next(result.tokens.len(), forbidden);
        let mut row = Row {
            tokens: result.tokens.clone(),
            logprobs: result.token_logprobs.clone(),
            alternatives: result.alternatives.clone(),
            sum_logprob: result.token_logprobs.iter().sum(),
            ..Row::default()
        };
        if let Some(boosts) = &self.boosts {
            let matched = |matched, &token| boosts.next(matched, token);
            row.boosted = row.tokens.iter().fold(row.boosted, matched);
        }
        self.resumed = row;
    }

    /// Returns whether a text may be longer than the one to continue.
    pub(crate) fn has_room(&self) -> bool {
        self.resumed.tokens.len() < self.max_tokens
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        self.model.tokenizer()
    }

    pub(super) fn decoder(&self) -> TokenDecoder {
        match self.max_candidates {
            Some(max_candidates) => TokenDecoder::Beam(BeamSearchDecoder::new(
                self.n_group,
                max_candidates,
                self.max_tokens,
            )),
            None => {
                let greedy = GreedyDecoder::new(self.temperature, self.n_group, self.seed);
                TokenDecoder::Greedy(greedy)
            }
        }
    }

    /// Returns whether a draft may be verified: of the only text in greedy search or sampling.
    pub(super) fn takes_drafts(&self) -> bool {
        self.max_candidates.is_none() && self.n_group == 1
    }

    /// Filters `logits`, `[n_vocab]`, of another model with the same vocabulary, for the next token after `tokens`, and finds
    /// the largest. `boosted`: position in the boosted phrases.
    pub(super) fn filter(
        &self,
        (tokens, boosted): (&[TokenId], Match),
        logits: &mut [f32],
        next: &mut Next,
    ) {
        if let Some(boosts) = &self.boosts {
            boosts.add_gains(boosted, logits, 1.0);
        }
        let kernels = self.model.kernels();
        self.filters
            .apply(kernels, logits, &mut next.maxima, tokens);
    }

    /// Filters `logits`, `[n_vocab]`, for the next token after `tokens`, and sets the statistics in `next`. `boosted`:
    /// position in the boosted phrases.
    pub(super) fn prepare(
        &self,
        (tokens, boosted): (&[TokenId], Match),
        logits: &mut [f32],
        next: &mut Next,
    ) {
        let kernels = self.model.kernels();
        self.filter((tokens, boosted), logits, next);
        // Log-probabilities are reported without the gains of boosted phrases.
        if let Some(boosts) = &self.boosts {
            boosts.add_gains(boosted, logits, -1.0);
            kernels.find_maxima(logits, &mut next.maxima);
        }
        next.log_sum = kernels.log_sum_exp_below(logits, &next.maxima);
        // Another window may have left some.
        next.alternatives.clear();
        if self.alternatives > 0 {
            next.maxima
                .top_k(logits, self.alternatives, &mut next.largest);
            let log_sum = next.log_sum;
            let likeliest = next.largest.iter().map(|&(token, logit)| TokenProbability {
                token: token as TokenId,
                logprob: logit - log_sum,
            });
            next.alternatives.extend(likeliest);
        }
        if let Some(boosts) = &self.boosts {
            boosts.add_gains(boosted, logits, 1.0);
            kernels.find_maxima(logits, &mut next.maxima);
        }
        if self.max_candidates.is_some() {
            // One candidate more than beams, since one of them may be the end-of-text token.
            next.maxima
                .top_k(logits, self.n_group + 1, &mut next.largest);
        }
    }

    pub(super) fn rules(&self) -> Rules<'_> {
        Rules {
            boosts: self.boosts.as_deref(),
            specials: Specials::of(self.tokenizer()),
            loop_guard: self.loop_guard,
        }
    }

    /// Returns the result of the best of `rows`, with the others as hypotheses. Rows with a repetition loop are cut and
    /// ranked last. `rows` must not be empty.
    pub(super) fn result(&self, mut rows: Vec<Row>, no_speech_prob: f64) -> DecodingResult {
        rows.iter_mut().for_each(|row| self.cut(row));
        let mut ranked = self.ranker.rank(rows);
        ranked.sort_by_key(|(_, row)| row.looped.is_some());
        let looped = ranked[0].1.looped.map(|looped| {
            let specials = Specials::of(self.tokenizer());
            let is_text = |token: &TokenId| specials.is_text(*token);
            let text = ranked[0].1.tokens.iter().copied().filter(is_text);
            let text: Vec<TokenId> = text.collect();
            text[text.len() - looped.period..].to_vec()
        });
        let alternatives = std::mem::take(&mut ranked[0].1.alternatives);
        let hypotheses: Vec<Hypothesis> = ranked
            .into_iter()
            .map(|(score, row)| self.hypothesis(score, row))
            .collect();
        let best = hypotheses[0].clone();
        DecodingResult {
            language: self.language,
            avg_logprob: best.avg_logprob,
            tokens: best.tokens,
            token_logprobs: best.token_logprobs,
            alternatives,
            no_speech_prob,
            temperature: self.temperature,
            compression_ratio: compression_ratio(&best.text),
            text: best.text,
            hypotheses,
            looped,
        }
    }

    /// Cuts the repetition loop of `row`, if there is one, at the end of a sentence or segment.
    fn cut(&self, row: &mut Row) {
        let Some(looped) = row.looped else { return };
        let ends_sentence = |token| {
            let text = self.tokenizer().decode(&[token]);
            text.ends_with(['.', '。', '!', '！', '?', '？'])
        };
        let end = looped.cut(&row.tokens, Specials::of(self.tokenizer()), ends_sentence);
        row.truncate(end);
    }

    fn hypothesis(&self, score: f64, row: Row) -> Hypothesis {
        Hypothesis {
            text: python::strip(&self.tokenizer().decode(&row.tokens)).to_owned(),
            score,
            avg_logprob: f64::from(row.sum_logprob) / (row.tokens.len() + 1) as f64,
            tokens: row.tokens,
            token_logprobs: row.logprobs,
        }
    }
}
