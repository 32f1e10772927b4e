package simd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"cosmossdk.io/math"
	cmtcfg "github.com/cometbft/cometbft/config"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	cmttypes "github.com/cometbft/cometbft/types"
	"github.com/cosmos/cosmos-sdk/client/flags"
	"github.com/cosmos/cosmos-sdk/crypto/hd"
	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	svrcfg "github.com/cosmos/cosmos-sdk/server/config"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	"github.com/cosmos/cosmos-sdk/x/genutil"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	"github.com/spf13/cobra"
)

// The accounts that a chain begins with: the first ones of this well-known mnemonic, each with
// `funds`. Whoever knows tests of this kind knows the keys, so they are worth nothing anywhere.
const (
	mnemonic = "test test test test test test test test test test test junk"
	accounts = 10
	funds    = 1_000_000_000_000
)

// What the validator that runs has, and each of those that do not; and after how many blocks that
// they have missed those begin to leave, one with each block.
const (
	power       = 1_000_000
	silentPower = 1_000
	patience    = 20
)

// How many states are dropped at once: no fewer can be.
const pruningInterval = "10"

type settings struct {
	home, chain, rpc, price string
	block                   time.Duration
	index                   bool
	silent, keep            uint32
	adjust                  []func(*cmtcfg.Config)
}

func homeCommand(app App, adjust []func(*cmtcfg.Config)) *cobra.Command {
	s := settings{adjust: adjust}
	cmd := &cobra.Command{
		Use:   "home",
		Short: "Make the home of a chain with one validator and ten accounts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if s.home, err = cmd.Flags().GetString(flags.FlagHome); err != nil {
				return err
			}
			return makeHome(app, s)
		},
	}
	cmd.Flags().StringVar(&s.chain, "chain-id", "simd", "the id of the chain")
	cmd.Flags().StringVar(&s.rpc, "rpc", "127.0.0.1:26657", "where the RPC listens")
	cmd.Flags().StringVar(&s.price, "gas-price", "0stake", "the lowest price of gas that is taken")
	cmd.Flags().DurationVar(&s.block, "block-time", 200*time.Millisecond, "the time between blocks")
	cmd.Flags().Uint32Var(&s.silent, "silent", 0, "how many more validators there are, none of which runs")
	cmd.Flags().Uint32Var(&s.keep, "keep", 0, "how many blocks are kept, and the states after them: at least 2, or all if it is 0")
	cmd.Flags().BoolVar(&s.index, "index", true, "whether transactions can be asked for by their hash")
	return cmd
}

func makeHome(app App, s settings) error {
	cmtcfg.EnsureRoot(s.home)
	if err := os.MkdirAll(filepath.Join(s.home, "data"), 0o700); err != nil {
		return err
	}
	config := configOf(s)
	cmtcfg.WriteConfigFile(filepath.Join(s.home, "config", "config.toml"), config)

	appConfig := svrcfg.DefaultConfig()
	appConfig.MinGasPrices = s.price
	// With neither this nor the REST API, a node does not serve the services of transactions and
	// of itself, by its RPC either.
	appConfig.GRPC.Address = "127.0.0.1:0"
	params := cmttypes.DefaultConsensusParams()
	if s.keep > 0 {
		appConfig.Pruning = "custom"
		appConfig.PruningKeepRecent = strconv.FormatUint(uint64(s.keep), 10)
		appConfig.PruningInterval = pruningInterval
		appConfig.MinRetainBlocks = uint64(s.keep)
		// A node keeps what somebody may still be accused of.
		params.Evidence.MaxAgeNumBlocks = int64(s.keep)
	}
	svrcfg.SetConfigTemplate(svrcfg.DefaultConfigTemplate)
	svrcfg.WriteConfigFile(filepath.Join(s.home, "config", "app.toml"), appConfig)

	_, key, err := genutil.InitializeNodeValidatorFiles(config)
	if err != nil {
		return err
	}
	public := cmted25519.PubKey(key.Bytes())
	validators := []*cmttypes.Validator{cmttypes.NewValidator(public, power)}
	for range s.silent {
		validators = append(validators, cmttypes.NewValidator(cmted25519.GenPrivKey().PubKey(), silentPower))
	}
	state, err := genesis(app, validators)
	if err != nil {
		return err
	}
	// As CometBFT writes it: all versions of the SDK read that.
	doc := cmttypes.GenesisDoc{ChainID: s.chain, ConsensusParams: params, AppState: state}
	if err := doc.ValidateAndComplete(); err != nil {
		return err
	}
	return doc.SaveAs(config.GenesisFile())
}

// configOf is the configuration of a node that talks to nobody but its clients on this machine.
func configOf(s settings) *cmtcfg.Config {
	config := cmtcfg.DefaultConfig()
	config.SetRoot(s.home)
	config.LogLevel = "error"
	config.RPC.ListenAddress = "tcp://" + s.rpc
	config.RPC.PprofListenAddress = ""
	config.P2P.ListenAddress = "tcp://127.0.0.1:0"
	config.P2P.PexReactor = false
	config.Consensus.TimeoutCommit = s.block
	config.Consensus.TimeoutPropose = 500 * time.Millisecond
	if !s.index {
		config.TxIndex.Indexer = "null"
	}
	for _, adjust := range s.adjust {
		adjust(config)
	}
	return config
}

func genesis(app App, validators []*cmttypes.Validator) (json.RawMessage, error) {
	var owners []authtypes.GenesisAccount
	var balances []banktypes.Balance
	for i := range uint32(accounts) {
		path := hd.CreateHDPath(sdk.CoinType, 0, i).String()
		private, err := hd.Secp256k1.Derive()(mnemonic, "", path)
		if err != nil {
			return nil, err
		}
		public := (&secp256k1.PrivKey{Key: private}).PubKey()
		address := sdk.AccAddress(public.Address())
		owners = append(owners, authtypes.NewBaseAccount(address, nil, uint64(i), 0))
		balances = append(balances, banktypes.Balance{
			Address: address.String(),
			Coins:   sdk.NewCoins(sdk.NewInt64Coin(sdk.DefaultBondDenom, funds)),
		})
	}
	set := cmttypes.NewValidatorSet(validators)
	state, err := simtestutil.GenesisStateWithValSet(app.AppCodec(), app.DefaultGenesis(), set, owners, balances...)
	if err != nil {
		return nil, err
	}
	stake(app, state, validators)
	// A validator that is bonded from the start has no record of what it signs otherwise.
	var infos []slashingtypes.SigningInfo
	for i, validator := range validators {
		consensus := sdk.ConsAddress(validator.Address)
		infos = append(infos, slashingtypes.SigningInfo{
			Address:              consensus.String(),
			ValidatorSigningInfo: slashingtypes.NewValidatorSigningInfo(consensus, int64(i), 0, time.Unix(0, 0), false, 0),
		})
	}
	params := slashingtypes.DefaultParams()
	params.SignedBlocksWindow = patience
	state[slashingtypes.ModuleName] = app.AppCodec().MustMarshalJSON(slashingtypes.NewGenesisState(params, infos, nil))
	return json.Marshal(state)
}

// stake gives validators the power that they are to have, where all were given the same, and lets
// all of them have a part in making blocks.
func stake(app App, state map[string]json.RawMessage, validators []*cmttypes.Validator) {
	powers := map[string]int64{}
	for _, validator := range validators {
		powers[sdk.ValAddress(validator.Address).String()] = validator.VotingPower
	}
	var staking stakingtypes.GenesisState
	app.AppCodec().MustUnmarshalJSON(state[stakingtypes.ModuleName], &staking)
	staking.Params.MaxValidators = max(staking.Params.MaxValidators, uint32(len(validators)))
	bonded := math.ZeroInt()
	for i := range staking.Validators {
		validator := &staking.Validators[i]
		tokens := sdk.TokensFromConsensusPower(powers[validator.OperatorAddress], sdk.DefaultPowerReduction)
		bonded = bonded.Add(tokens)
		validator.Tokens, validator.DelegatorShares = tokens, math.LegacyNewDecFromInt(tokens)
		for j := range staking.Delegations {
			if staking.Delegations[j].ValidatorAddress == validator.OperatorAddress {
				staking.Delegations[j].Shares = validator.DelegatorShares
			}
		}
	}
	state[stakingtypes.ModuleName] = app.AppCodec().MustMarshalJSON(&staking)

	var bank banktypes.GenesisState
	app.AppCodec().MustUnmarshalJSON(state[banktypes.ModuleName], &bank)
	pool := authtypes.NewModuleAddress(stakingtypes.BondedPoolName).String()
	bank.Supply = sdk.NewCoins()
	for i := range bank.Balances {
		if bank.Balances[i].Address == pool {
			bank.Balances[i].Coins = sdk.NewCoins(sdk.NewCoin(sdk.DefaultBondDenom, bonded))
		}
		bank.Supply = bank.Supply.Add(bank.Balances[i].Coins...)
	}
	state[banktypes.ModuleName] = app.AppCodec().MustMarshalJSON(&bank)
}
