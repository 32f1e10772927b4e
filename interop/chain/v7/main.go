// Command simd is a chain for tests with ibc-go v7.
package main

import (
	"encoding/json"
	"io"
	"os"
	"time"

	"simd"

	dbm "github.com/cometbft/cometbft-db"
	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/server"
	svr "github.com/cosmos/cosmos-sdk/server/types"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	capabilitytypes "github.com/cosmos/cosmos-sdk/x/capability/types"
	clienttypes "github.com/cosmos/ibc-go/v7/modules/core/02-client/types"
	channeltypes "github.com/cosmos/ibc-go/v7/modules/core/04-channel/types"
	host "github.com/cosmos/ibc-go/v7/modules/core/24-host"
	"github.com/cosmos/ibc-go/v7/modules/core/exported"
	ibcmock "github.com/cosmos/ibc-go/v7/testing/mock"
	"github.com/cosmos/ibc-go/v7/testing/simapp"
)

// app has what the applications of later versions have.
type app struct{ *simapp.SimApp }

func (a app) TxConfig() client.TxConfig { return a.GetTxConfig() }

func (a app) DefaultGenesis() map[string]json.RawMessage {
	return simapp.NewDefaultGenesisState(a.AppCodec())
}

func main() {
	simd.Main(app{simapp.NewSimApp(log.NewNopLogger(), dbm.NewMemDB(), nil, true, nil, os.TempDir(), 0,
		simapp.MakeTestEncodingConfig(), simtestutil.NewAppOptionsWithFlagHome(os.TempDir()))}, create, alone)
}

// alone lets a node begin that is one of several validators. Later ones see by themselves that there
// can be no blocks to wait for.
func alone(config *cmtcfg.Config) { config.BlockSyncMode = false }

func create(logger log.Logger, db dbm.DB, trace io.Writer, options svr.AppOptions) svr.Application {
	home, _ := options.Get("home").(string)
	app := app{simapp.NewSimApp(logger, db, trace, true, nil, home, 0,
		simapp.MakeTestEncodingConfig(), options, server.DefaultBaseappOptions(options)...)}
	echo(app)
	return app
}

// echo makes the port "mock" send back whatever it receives.
func echo(app app) {
	module, _ := app.IBCKeeper.Router.GetRoute(ibcmock.ModuleName)
	mock := module.(ibcmock.IBCModule).IBCApp
	owned := app.ScopedIBCMockKeeper
	mock.OnChanOpenTry = func(ctx sdk.Context, _ channeltypes.Order, _ []string, port, channel string,
		capability *capabilitytypes.Capability, _ channeltypes.Counterparty, version string,
	) (string, error) {
		return version, owned.ClaimCapability(ctx, capability, host.ChannelCapabilityPath(port, channel))
	}
	mock.OnRecvPacket = func(ctx sdk.Context, packet channeltypes.Packet, _ sdk.AccAddress,
	) exported.Acknowledgement {
		port, channel := packet.DestinationPort, packet.DestinationChannel
		capability, _ := owned.GetCapability(ctx, host.ChannelCapabilityPath(port, channel))
		timeout := uint64(ctx.BlockTime().Add(time.Hour).UnixNano())
		_, err := app.IBCKeeper.ChannelKeeper.SendPacket(ctx, capability, port, channel,
			clienttypes.ZeroHeight(), timeout, packet.Data)
		if err != nil {
			return channeltypes.NewErrorAcknowledgement(err)
		}
		return channeltypes.NewResultAcknowledgement([]byte{1})
	}
}
